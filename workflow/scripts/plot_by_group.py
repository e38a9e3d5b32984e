from peft_ablation.figures.by_group import plot_by_group
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_by_group(
        snakemake.input.table,
        account=snakemake.input.account,
        column=snakemake.params.column,
        outputs=snakemake.output,
    )
