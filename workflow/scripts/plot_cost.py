from peft_ablation.figures.cost import plot_cost
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_cost(snakemake.input.table, outputs=snakemake.output)
