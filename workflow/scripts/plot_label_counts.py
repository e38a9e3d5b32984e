from peft_ablation.logs import job
from peft_ablation.sources.mimic.label_counts import plot_label_counts

with job(snakemake.log[0]):
    plot_label_counts(
        snakemake.input.all,
        snakemake.input.sampled,
        snakemake.input.splits,
        outputs=snakemake.output,
    )
