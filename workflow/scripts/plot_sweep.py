from peft_ablation.figures.sweep import plot_sweep
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_sweep(
        snakemake.input.points,
        snakemake.input.spreads,
        **snakemake.params,
        outputs=snakemake.output,
    )
