from peft_ablation.comparison.grades import read_grades
from peft_ablation.logs import job

with job(snakemake.log[0]):
    read_grades(
        snakemake.input.grades,
        key=snakemake.input.key,
        scale=snakemake.params.scale,
        output=snakemake.output.table,
    )
