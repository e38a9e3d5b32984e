from peft_ablation.comparison.forgetting import compare_forgetting
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_forgetting(
        runs=snakemake.params.runs,
        before=snakemake.input.before,
        after=snakemake.input.after,
        drift=snakemake.input.drift,
        task=snakemake.params.task,
        train=snakemake.input.train,
        confidence=snakemake.params.confidence,
        output=snakemake.output.table,
    )
