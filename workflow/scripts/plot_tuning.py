from peft_ablation.figures.tuning import plot_tuning
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_tuning(snakemake.input.tables, arms=snakemake.params.arms, outputs=snakemake.output)
