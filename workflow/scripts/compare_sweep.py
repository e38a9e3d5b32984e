from peft_ablation.comparison.sweep import compare_sweep
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_sweep(
        scores=snakemake.input.scores,
        sums=snakemake.input.sums,
        costs=snakemake.input.costs,
        train=snakemake.input.train,
        **snakemake.params,
        points=snakemake.output.points,
        spreads=snakemake.output.spreads,
    )
