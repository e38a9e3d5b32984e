from peft_ablation.logs import job
from peft_ablation.verify import seal

with job(snakemake.log[0]):
    seal(
        snakemake.input,
        study=snakemake.params.study,
        config=snakemake.params.config,
        output=snakemake.output.manifest,
    )
