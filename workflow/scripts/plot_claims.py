from peft_ablation.figures.claims import plot_claims
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_claims(snakemake.input.table, words=snakemake.input.words, outputs=snakemake.output)
