from peft_ablation.logs import job
from peft_ablation.scoring.predictions import write_predictions

with job(snakemake.log[0]):
    write_predictions(
        model=snakemake.input.model,
        base=snakemake.input.base,
        test=snakemake.input.test,
        index=snakemake.input.index,
        features=snakemake.input.get("features") or None,
        settings=snakemake.params.train,
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.score,
        output=snakemake.output.predictions,
    )
