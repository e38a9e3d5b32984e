from peft_ablation.logs import job
from peft_ablation.training.selection import compose_runs

with job(snakemake.log[0]):
    compose_runs(
        task={**snakemake.params.task, **snakemake.config["conduct"]["task"]},
        train=snakemake.input.train,
        base=snakemake.input.base,
        arm_name=snakemake.wildcards.arm,
        arm=snakemake.params.arm,
        seed=int(snakemake.wildcards.seed),
        parts=snakemake.params.parts,
        models=snakemake.input.models,
        costs=snakemake.input.costs,
        model=snakemake.output.model,
        history=snakemake.output.history,
        cost=snakemake.output.cost,
    )
