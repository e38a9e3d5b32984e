from peft_ablation.figures.sweep import plot_sweep
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_sweep(
        snakemake.input.points,
        snakemake.input.spreads,
        studies=snakemake.params.studies,
        key=snakemake.params.swept[0],
        outputs=snakemake.output,
    )
