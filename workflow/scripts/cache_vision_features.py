from peft_ablation.logs import job
from peft_ablation.training.features import cache_vision_features

with job(snakemake.log[0]):
    cache_vision_features(
        base=snakemake.input.base,
        index=snakemake.input.index,
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.train,
        output=snakemake.output.features,
    )
