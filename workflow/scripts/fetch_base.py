from peft_ablation.base import fetch_base

from peft_ablation.logs import job

with job(snakemake.log[0]):
    fetch_base(snakemake.params.id, snakemake.params.revision, snakemake.output.model)
