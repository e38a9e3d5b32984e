from peft_ablation.figures.critical_difference import plot_critical_difference
from peft_ablation.logs import job

with job(snakemake.log[0]):
    plot_critical_difference(
        snakemake.input.tables,
        words=snakemake.input.words,
        studies=snakemake.params.studies,
        confidence=snakemake.params.confidence,
        outputs=snakemake.output,
    )
