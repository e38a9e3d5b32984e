from peft_ablation.figures.quality import plot_quality
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_quality(snakemake.input.table, words=snakemake.input.words, outputs=snakemake.output)
