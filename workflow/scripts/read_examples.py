from peft_ablation.logs import job
from peft_ablation.sources import read_examples

with job(snakemake.log[0]):
    read_examples(
        snakemake.params.data,
        snakemake.params.site,
        output=snakemake.output.table,
        account=snakemake.output.account,
    )
