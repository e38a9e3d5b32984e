from peft_ablation.figures.forgetting import plot_forgetting
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_forgetting(
        snakemake.input.table,
        comparison=snakemake.input.comparison,
        words=snakemake.input.words,
        outputs=snakemake.output,
    )
