from peft_ablation.bases.adopted import prepare_base
from peft_ablation.logs import job

with job(snakemake.log[0]):
    prepare_base(
        snakemake.input.base,
        task=snakemake.params.task,
        train=snakemake.input.train,
        threads=snakemake.params.threads,
        output=snakemake.output.model,
    )
