from peft_ablation.bases.schematic import hold_out
from peft_ablation.logs import job

with job(snakemake.log[0]):
    hold_out(
        snakemake.params.examples,
        size=snakemake.params.size,
        seed=snakemake.params.seed,
        examples=snakemake.output.examples,
        index=snakemake.output.images,
        pixels=snakemake.output.pixels,
    )
