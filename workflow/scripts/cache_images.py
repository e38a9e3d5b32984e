from peft_ablation.data.images import cache_shard
from peft_ablation.logs import job

with job(snakemake.log[0]):
    cache_shard(
        snakemake.input.table,
        shard=int(snakemake.wildcards.shard),
        shards=snakemake.params.shards,
        size=snakemake.params.size,
        colour=snakemake.params.colour,
        verify=snakemake.params.verify,
        root=snakemake.params.root,
        cloud=snakemake.params.cloud,
        pixels=snakemake.output.pixels,
        index=snakemake.output.index,
    )
