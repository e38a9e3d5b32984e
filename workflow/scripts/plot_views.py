from peft_ablation.figures.views import plot_views
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_views(
        snakemake.input.histories,
        runs=snakemake.params.runs,
        table=snakemake.input.table,
        outputs=snakemake.output,
    )
