from peft_ablation.bases.phantom import pretrain_phantom_base
from peft_ablation.logs import job

with job(snakemake.log[0]):
    pretrain_phantom_base(
        snakemake.output.model,
        prompt=snakemake.params.prompt,
        **snakemake.params.pretraining,
    )
