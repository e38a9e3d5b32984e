import os

from peft_ablation.logs import job

with job(snakemake.log[0]):
    # As fetch_base, it asks the hub; the Snakefile forbids it to all. Read when it is imported.
    os.environ.update(HF_HUB_OFFLINE="0")
    from peft_ablation.sources.table.fetch import fetch_file

    fetch_file(
        snakemake.params.hub["id"],
        snakemake.params.hub["revision"],
        snakemake.params.file,
        snakemake.output.file,
    )
