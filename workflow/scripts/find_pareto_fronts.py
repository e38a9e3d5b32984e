from peft_ablation.comparison.pareto import find_pareto_fronts
from peft_ablation.logs import job

with job(snakemake.log[0]):
    find_pareto_fronts(
        runs=snakemake.params.runs,
        sums=snakemake.input.sums,
        costs=snakemake.input.costs,
        task=snakemake.params.task,
        train=snakemake.input.train,
        confidence=snakemake.params.confidence,
        table=snakemake.output.table,
    )
