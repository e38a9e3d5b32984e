from peft_ablation.comparison.likelihoods import compare_likelihoods
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_likelihoods(
        runs=snakemake.params.runs,
        predictions=snakemake.input.predictions,
        task=snakemake.params.task,
        train=snakemake.input.train,
        reference=snakemake.params.reference,
        confidence=snakemake.params.confidence,
        table=snakemake.output.table,
        reliability=snakemake.output.reliability,
    )
