from peft_ablation.comparison.sweep import compare_sweep
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_sweep(
        runs=snakemake.params.runs,
        scores=snakemake.input.scores,
        sums=snakemake.input.sums,
        costs=snakemake.input.costs,
        arms=snakemake.params.arms,
        key=snakemake.params.swept[0],
        reference=snakemake.params.reference,
        task=snakemake.params.task,
        train=snakemake.input.train,
        published=snakemake.params.published,
        confidence=snakemake.params.confidence,
        points=snakemake.output.points,
        spreads=snakemake.output.spreads,
    )
