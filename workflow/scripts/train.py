from peft_ablation.logs import job
from peft_ablation.tasks import ASSETS
from peft_ablation.training.chunk import train_chunk
from peft_ablation.training.inputs import RunInputs

with job(snakemake.log[0], snakemake.resources.attempt):
    conduct = snakemake.config["conduct"]
    train_chunk(
        RunInputs(
            task={**snakemake.params.task, **conduct["task"]},
            arm=snakemake.params.arm,
            settings={**snakemake.params.train, **conduct["train"]},
            seed=int(snakemake.wildcards.seed),
            base=snakemake.input.base,
            train=snakemake.input.train,
            val=snakemake.input.val,
            assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
            init_from=snakemake.input.get("init_from") or None,
        ),
        name=f"{snakemake.params.arm_name} seed {snakemake.wildcards.seed}",
        chunk=int(snakemake.wildcards.chunk),
        previous=snakemake.input.get("previous") or None,
        checkpoints=snakemake.params.checkpoints,
        tensorboard=snakemake.params.tensorboard if conduct["tensorboard"] else None,
        output=snakemake.output.chunk,
    )
