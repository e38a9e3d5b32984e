from peft_ablation.logs import job
from peft_ablation.pretraining import pretrain_phantom_base

with job(snakemake.log[0]):
    pretrain_phantom_base(
        snakemake.output.model,
        prompt=snakemake.params.prompt,
        threads=snakemake.params.threads,
        **snakemake.params.pretraining,
    )
