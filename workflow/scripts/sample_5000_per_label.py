from peft_ablation.logs import job
from peft_ablation.sources.mimic.sampling import sample_table

with job(snakemake.log[0]):
    sample_table(
        snakemake.input.table,
        **snakemake.params.sample,
        output=snakemake.output.table,
        csv=snakemake.output.csv,
        account=snakemake.output.account,
    )
