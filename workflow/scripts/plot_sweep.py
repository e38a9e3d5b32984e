from peft_ablation.figures.sweep import plot_sweep
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_sweep(
        snakemake.input.table,
        words=snakemake.input.words,
        **snakemake.params,
        outputs=snakemake.output,
    )
