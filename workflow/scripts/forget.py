from peft_ablation.logs import job
from peft_ablation.scoring.forgetting import write_forgetting
from peft_ablation.tasks import ASSETS

with job(snakemake.log[0]):
    write_forgetting(
        task=snakemake.params.task,
        arms=snakemake.params.arms,
        runs=snakemake.params.runs,
        models=snakemake.input.models,
        bases=[snakemake.input.bases[place] for place in snakemake.params.base_of_run],
        train=snakemake.input.train,
        examples=snakemake.input.examples,
        assets={name: path for name, path in snakemake.input.items() if name in ASSETS},
        batch_size=snakemake.config["conduct"]["eval_batch_size"],
        **snakemake.params.train,
        before=dict(zip(snakemake.input.bases, snakemake.output.before, strict=True)),
        after=snakemake.output.after,
        drift=snakemake.output.drift,
    )
