from peft_ablation.logs import job
from peft_ablation.training.tuning import choose_learning_rate

with job(snakemake.log[0]):
    choose_learning_rate(
        snakemake.input.trials,
        arm=snakemake.wildcards.arm,
        table=snakemake.output.table,
        chosen=snakemake.output.chosen,
    )
