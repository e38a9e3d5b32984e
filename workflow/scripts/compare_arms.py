from peft_ablation.comparison import compare_arms

from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_arms(
        runs=snakemake.params.runs,
        scores=snakemake.input.scores,
        costs=snakemake.input.costs,
        arms=snakemake.params.arms,
        study=snakemake.params.study,
        config=snakemake.params.config,
        **snakemake.params.score,
        table=snakemake.output.table,
        markdown=snakemake.output.markdown,
        manifest=snakemake.output.manifest,
    )
