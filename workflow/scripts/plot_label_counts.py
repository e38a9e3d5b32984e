from peft_ablation.figures import plot_label_counts
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_label_counts(
        snakemake.input.all,
        snakemake.input.sampled,
        snakemake.input.splits,
        outputs=snakemake.output,
    )
