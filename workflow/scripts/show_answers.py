from peft_ablation.comparison.answers import show_answers
from peft_ablation.logs import job

with job(snakemake.log[0]):
    show_answers(
        snakemake.input.answers,
        grades=snakemake.input.grades or None,
        study=snakemake.params.study,
        public=snakemake.params.public,
        scale=snakemake.params.scale,
        confidence=snakemake.params.confidence,
        output=snakemake.output.page,
    )
