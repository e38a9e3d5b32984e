from peft_ablation.logs import job
from peft_ablation.tasks import ASSETS
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.memory import measure_memory

with job(snakemake.log[0]):
    conduct = snakemake.config["conduct"]
    images = {name: path for name, path in snakemake.input.items() if name == ASSETS[0]}
    features = dict(zip(snakemake.params.caching, snakemake.input.features, strict=True))
    measure_memory(
        {
            arm: RunInputs(
                task={**snakemake.params.task, **conduct["task"]},
                arm=snakemake.params.arms[arm],
                settings={**snakemake.params.train[arm], **conduct["train"]},
                seed=snakemake.params.seed,
                base=base,
                train=snakemake.input.train,
                val=snakemake.input.val,
                assets=images | ({ASSETS[1]: features[arm]} if arm in features else {}),
            )
            for arm, base in zip(snakemake.params.arms, snakemake.input.bases, strict=True)
        },
        memory=snakemake.params.memory,
        output=snakemake.output.table,
    )
