from peft_ablation.figures.quality_cost import plot_quality_cost
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_quality_cost(snakemake.input.table, words=snakemake.input.words, outputs=snakemake.output)
