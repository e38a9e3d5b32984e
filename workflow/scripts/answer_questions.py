from peft_ablation.logs import job
from peft_ablation.scoring.questions import write_answers

with job(snakemake.log[0]):
    write_answers(
        task=snakemake.params.task,
        questions=snakemake.params.questions,
        arms=snakemake.params.arms,
        runs=snakemake.params.runs,
        models=snakemake.input.models,
        bases=[snakemake.input.bases[place] for place in snakemake.params.base_of_run],
        untouched=snakemake.params.untouched,
        folders=[*snakemake.input.bases, *snakemake.input.instruct],
        train=snakemake.input.train,
        **snakemake.params.train,
        output=snakemake.output.answers,
    )
