from peft_ablation.logs import job
from peft_ablation.scoring.claims import write_claims
from peft_ablation.tasks import ASSETS

with job(snakemake.log[0]):
    write_claims(
        task=snakemake.params.task,
        arms=snakemake.params.arms,
        runs=snakemake.params.runs,
        models=snakemake.input.models,
        bases=snakemake.input.bases,
        predictions=snakemake.input.predictions,
        costs=snakemake.input.costs,
        train=snakemake.input.train,
        test=snakemake.input.test,
        assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.train,
        output=snakemake.output.claims,
    )
