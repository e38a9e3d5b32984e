from peft_ablation.logs import job
from peft_ablation.training.features import cache_frozen_features

with job(snakemake.log[0]):
    cache_frozen_features(
        task={**snakemake.params.task, **snakemake.config["conduct"]["task"]},
        base=snakemake.input.base,
        train=snakemake.input.train,
        images=snakemake.input.images,
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.train,
        output=snakemake.output.features,
    )
