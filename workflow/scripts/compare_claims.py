from peft_ablation.comparison.claims import compare_claims
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_claims(
        claims=snakemake.input.claims,
        comparison=snakemake.input.table,
        words=snakemake.input.words,
        arms=snakemake.params.arms,
        study=snakemake.params.study,
        confidence=snakemake.params.confidence,
        output=snakemake.output.table,
        page=snakemake.output.page,
    )
