import os

from peft_ablation.bases.fetch import fetch_base
from peft_ablation.logs import job

with job(snakemake.log[0]):
    # The one job that asks the hub; the Snakefile forbids it to all.
    os.environ.update(HF_HUB_OFFLINE="0")
    fetch_base(
        snakemake.params.id,
        snakemake.params.revision,
        snakemake.output.model,
        model_types=snakemake.params.model_types,
        tokenizer=snakemake.params.tokenizer,
    )
