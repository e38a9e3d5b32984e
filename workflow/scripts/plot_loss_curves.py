from peft_ablation.figures.loss_curves import plot_loss_curves
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_loss_curves(
        snakemake.input.histories, runs=snakemake.params.runs, outputs=snakemake.output
    )
