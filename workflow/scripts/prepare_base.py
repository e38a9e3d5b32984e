from peft_ablation.logs import job
from peft_ablation.training.prepared import prepare_base

with job(snakemake.log[0]):
    prepare_base(
        snakemake.input.base,
        task=snakemake.params.task,
        train=snakemake.input.train,
        threads=snakemake.params.threads,
        output=snakemake.output.model,
    )
