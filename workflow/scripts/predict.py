from peft_ablation.logs import job
from peft_ablation.scoring.predictions import write_predictions
from peft_ablation.tasks import ASSETS

with job(snakemake.log[0]):
    write_predictions(
        task=snakemake.params.task,
        arm=snakemake.params.arm,
        model=snakemake.input.model,
        base=snakemake.input.base,
        train=snakemake.input.train,
        test=snakemake.input.test,
        assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.train,
        **snakemake.params.score,
        output=snakemake.output.predictions,
    )
