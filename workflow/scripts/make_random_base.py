from peft_ablation.bases.random import make_random_base
from peft_ablation.logs import job

with job(snakemake.log[0]):
    make_random_base(
        snakemake.output.model, texts=snakemake.input.get("texts"), **snakemake.params.random
    )
