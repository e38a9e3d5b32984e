from peft_ablation.comparison.cards import write_cards
from peft_ablation.logs import job

with job(snakemake.log[0]):
    write_cards(
        runs=snakemake.params.runs,
        models=snakemake.input.models,
        scores=snakemake.input.scores,
        table=snakemake.input.table,
        words=snakemake.input.words,
        bases=snakemake.params.bases,
        config=snakemake.params.config,
        study=snakemake.params.study,
        kind=snakemake.params.kind,
        confidence=snakemake.params.confidence,
        terms=snakemake.params.terms,
        cards=snakemake.output.cards,
    )
