from peft_ablation.figures.memory import plot_memory
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_memory(snakemake.input.table, outputs=snakemake.output)
