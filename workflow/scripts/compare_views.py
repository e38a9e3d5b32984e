from peft_ablation.comparison.views import compare_views
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_views(
        snakemake.input.histories,
        runs=snakemake.params.runs,
        reference=snakemake.params.reference,
        table=snakemake.output.table,
    )
