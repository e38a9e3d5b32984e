from peft_ablation.comparison.table import compare_arms
from peft_ablation.logs import job

with job(snakemake.log[0]):
    compare_arms(
        runs=snakemake.params.runs,
        scores=snakemake.input.scores,
        sums=snakemake.input.sums,
        costs=snakemake.input.costs,
        likelihoods=snakemake.input.get("likelihoods") or None,
        by_group=snakemake.input.get("by_group"),
        sweeps=list(
            zip(
                snakemake.params.get("swept", ()),
                snakemake.input.get("sweeps", ())[::2],
                snakemake.input.get("sweeps", ())[1::2],
                # `compare_others` has these parameters, but not these inputs.
                strict=False,
            )
        ),
        tokens=snakemake.input.get("tokens") or None,
        accounts=snakemake.input.accounts,
        trials=dict(zip(snakemake.params.tuned, snakemake.input.trials, strict=True)),
        views=snakemake.input.get("views"),
        pareto=snakemake.input.get("pareto"),
        forgetting=snakemake.input.get("forgetting"),
        arms=snakemake.params.arms,
        task=snakemake.params.task,
        train=snakemake.input.train,
        reference=snakemake.params.reference,
        group=snakemake.params.group,
        study=snakemake.params.study,
        config=snakemake.params.config,
        confidence=snakemake.params.confidence,
        published=snakemake.params.published,
        table=snakemake.output.table,
        words=snakemake.output.words,
        looks=snakemake.output.looks,
        estimates=snakemake.output.estimates,
        markdown_page=snakemake.output.markdown,
        html_page=snakemake.output.page,
        manifest=snakemake.output.manifest,
    )
