from peft_ablation.comparison.grades import write_grading_sheet
from peft_ablation.logs import job

with job(snakemake.log[0]):
    write_grading_sheet(
        snakemake.input.answers,
        seed=snakemake.params.seed,
        sheet=snakemake.output.sheet,
        key=snakemake.output.key,
    )
