from peft_ablation.comparison.paper import write_up
from peft_ablation.logs import job

with job(snakemake.log[0]):
    write_up(
        table=snakemake.input.table,
        words=snakemake.input.words,
        manifest=snakemake.input.manifest,
        account=snakemake.input.account,
        config=snakemake.params.config,
        study=snakemake.params.study,
        confidence=snakemake.params.confidence,
        tested=snakemake.params.tested,
        summary_text=snakemake.output.summary,
        methods=snakemake.output.methods,
        latex=snakemake.output.latex,
    )
