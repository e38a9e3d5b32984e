from peft_ablation.data.images import index_shards
from peft_ablation.logs import job

with job(snakemake.log[0]):
    index_shards(
        snakemake.input.table,
        snakemake.input.shards,
        **snakemake.params.images,
        output=snakemake.output.index,
        account=snakemake.output.account,
    )
