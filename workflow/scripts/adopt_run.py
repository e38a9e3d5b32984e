from peft_ablation.bases.adopted import adopt_run
from peft_ablation.logs import job

with job(snakemake.log[0]):
    adopt_run(
        snakemake.input.model,
        base=snakemake.input.base,
        train=snakemake.input.train,
        task=snakemake.params.task,
        arm=snakemake.params.arm,
        output=snakemake.output.model,
    )
