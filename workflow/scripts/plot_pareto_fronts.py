from peft_ablation.figures.pareto import plot_pareto_fronts
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_pareto_fronts(snakemake.input.table, words=snakemake.input.words, outputs=snakemake.output)
