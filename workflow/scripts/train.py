from peft_ablation.logs import job
from peft_ablation.training.chunk import train_chunk

with job(snakemake.log[0]):
    train_chunk(
        task=snakemake.params.task,
        arm_name=snakemake.params.arm_name,
        arm=snakemake.params.arm,
        settings={**snakemake.params.train, **snakemake.config["conduct"]["train"]},
        seed=int(snakemake.wildcards.seed),
        chunk=int(snakemake.wildcards.chunk),
        base=snakemake.input.base,
        train=snakemake.input.train,
        val=snakemake.input.val,
        index=snakemake.input.index,
        features=snakemake.input.get("features") or None,
        previous=snakemake.input.get("previous") or None,
        checkpoints=snakemake.params.checkpoints,
        tensorboard=(
            snakemake.params.tensorboard if snakemake.config["conduct"]["tensorboard"] else None
        ),
        output=snakemake.output.chunk,
    )
