from peft_ablation.figures.likelihoods import plot_likelihoods
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_likelihoods(
        snakemake.input.table,
        reliability=snakemake.input.reliability,
        outputs=snakemake.output,
    )
