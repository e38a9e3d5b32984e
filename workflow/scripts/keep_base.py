from peft_ablation.logs import job
from peft_ablation.training.selection import keep_base

with job(snakemake.log[0]):
    keep_base(
        task={**snakemake.params.task, **snakemake.config["conduct"]["task"]},
        train=snakemake.input.train,
        base=snakemake.input.base,
        arm_name=snakemake.wildcards.arm,
        arm=snakemake.params.arm,
        seed=int(snakemake.wildcards.seed),
        model=snakemake.output.model,
        history=snakemake.output.history,
        cost=snakemake.output.cost,
    )
