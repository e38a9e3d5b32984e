from peft_ablation.logs import job
from peft_ablation.sources.mimic.cohort import query_metadata

with job(snakemake.log[0]):
    query_metadata(
        sql=snakemake.input.sql,
        metadata=snakemake.input.get("metadata"),
        chexpert=snakemake.input.get("chexpert"),
        views=snakemake.params.views,
        limit=snakemake.params.limit,
        cloud=snakemake.params.cloud,
        output=snakemake.output.table,
        account=snakemake.output.account,
    )
