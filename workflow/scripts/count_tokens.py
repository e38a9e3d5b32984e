from peft_ablation.comparison.tokens import count_tokens
from peft_ablation.logs import job

with job(snakemake.log[0]):
    count_tokens(
        examples=snakemake.input.examples,
        account=snakemake.input.account,
        task=snakemake.params.task,
        train=snakemake.input.train,
        base=snakemake.input.base,
        table=snakemake.output.table,
    )
