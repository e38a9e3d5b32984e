from peft_ablation.comparison.by_group import compare_by_group
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_by_group(
        runs=snakemake.params.runs,
        sums=snakemake.input.sums,
        predictions=snakemake.input.predictions,
        test=snakemake.input.test,
        columns=snakemake.params.columns,
        public=snakemake.params.public,
        task=snakemake.params.task,
        train=snakemake.input.train,
        reference=snakemake.params.reference,
        confidence=snakemake.params.confidence,
        table=snakemake.output.table,
        account=snakemake.output.account,
    )
