from peft_ablation.logs import job
from peft_ablation.scoring.scores import score_predictions

with job(snakemake.log[0]):
    score_predictions(
        snakemake.input.predictions,
        train=snakemake.input.train,
        task=snakemake.params.task,
        **snakemake.params.score,
        output=snakemake.output.scores,
        sums=snakemake.output.sums,
        nearest=snakemake.input.get("nearest") or None,
    )
