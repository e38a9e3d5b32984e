from peft_ablation.figures.split_balance import plot_split_balance
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_split_balance(snakemake.input.balance, outputs=snakemake.output)
