from peft_ablation.figures.suite import plot_suite
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_suite(
        snakemake.input.tables,
        words=snakemake.input.words,
        studies=snakemake.params.studies,
        outputs=snakemake.output,
    )
