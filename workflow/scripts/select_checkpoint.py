from peft_ablation.logs import job
from peft_ablation.training.selection import select_checkpoint

with job(snakemake.log[0]):
    select_checkpoint(
        snakemake.input.chunk,
        base=snakemake.input.base,
        arm_name=snakemake.wildcards.arm,
        arm=snakemake.params.arm,
        seed=int(snakemake.wildcards.seed),
        study=snakemake.params.study,
        model=snakemake.output.model,
        history=snakemake.output.history,
        cost=snakemake.output.cost,
    )
