# In: scores, sums, histories and costs of all runs. Out: comparison/ and figures/.


rule compare_arms:
    input:
        scores=runs(rules.score.output.scores),
        sums=runs(rules.score.output.sums),
        costs=runs(rules.select_checkpoint.output.cost),
    output:
        table=report(
            f"{RESULTS}/comparison/comparison.csv",
            caption="../report/comparison_table.rst",
            category="1. Comparison",
            labels={"what": "Every column, as a table"},
        ),
        markdown=f"{RESULTS}/comparison/comparison.md",
        page=report(
            f"{RESULTS}/comparison/comparison.html",
            caption="../report/comparison.rst",
            category="1. Comparison",
            labels={"what": "Comparison of arms"},
        ),
        manifest=f"{RESULTS}/comparison/manifest.json",
    log:
        f"{RESULTS}/logs/compare_arms.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
        arms={name: settings(arm) for name, arm in STUDY.arms.items()},
        study=CONFIG.name,
        config=settings(STUDY),
        score=settings(STUDY.score, "bootstrap_samples", "confidence", "seed"),
    message:
        "Comparing arms"
    script:
        "../scripts/compare_arms.py"


rule plot_loss_curves:
    input:
        histories=runs(rules.select_checkpoint.output.history),
    output:
        figure("loss_curves", "2. Training", "Loss by epoch"),
    log:
        f"{RESULTS}/logs/plot_loss_curves.log",
    conda:
        "../../envs/tables.yaml"
    params:
        runs=rules.compare_arms.params.runs,
    message:
        "Drawing loss curves"
    script:
        "../scripts/plot_loss_curves.py"


rule plot_quality:
    input:
        table=rules.compare_arms.output.table,
    output:
        figure("quality", "1. Comparison", "Quality by arm"),
    log:
        f"{RESULTS}/logs/plot_quality.log",
    conda:
        "../../envs/tables.yaml"
    params:
        metrics=list(STUDY.score.metrics),
    message:
        "Drawing quality by arm"
    script:
        "../scripts/plot_quality.py"


rule plot_cost:
    input:
        table=rules.compare_arms.output.table,
    output:
        figure("cost", "1. Comparison", "Cost by arm"),
    log:
        f"{RESULTS}/logs/plot_cost.log",
    conda:
        "../../envs/tables.yaml"
    message:
        "Drawing cost by arm"
    script:
        "../scripts/plot_cost.py"


rule plot_quality_cost:
    input:
        table=rules.compare_arms.output.table,
    output:
        figure("quality_cost", "1. Comparison", "Quality against cost"),
    log:
        f"{RESULTS}/logs/plot_quality_cost.log",
    conda:
        "../../envs/tables.yaml"
    message:
        "Drawing quality against cost"
    script:
        "../scripts/plot_quality_cost.py"


rule plot_label_counts:
    input:
        all=rules.query_metadata.output.table,
        sampled=rules.sample_5000_per_label.output.table,
        splits=SPLITS,
    output:
        figure("label_counts", "3. Data", "Positive labels through the chain"),
    log:
        f"{RESULTS}/logs/plot_label_counts.log",
    conda:
        "../../envs/tables.yaml"
    message:
        "Drawing label counts through the chain"
    script:
        "../scripts/plot_label_counts.py"


rule plot_split_balance:
    input:
        balance=rules.stratify_splits.output.balance,
    output:
        figure("split_balance", "3. Data", "Balance of the splits"),
    log:
        f"{RESULTS}/logs/plot_split_balance.log",
    conda:
        "../../envs/tables.yaml"
    message:
        "Drawing the balance of the splits"
    script:
        "../scripts/plot_split_balance.py"


# Images and texts of patients never reach a figure: this one exists for public data alone.
rule plot_examples:
    input:
        predictions=expand(
            rules.generate.output.predictions, arm=list(STUDY.arms), seed=STUDY.train.seeds[0]
        ),
        index=rules.index_images.output.index,
    output:
        figure("examples", "4. Examples", "Images and reports"),
    log:
        f"{RESULTS}/logs/plot_examples.log",
    conda:
        "../../envs/tables.yaml"
    params:
        arms=list(STUDY.arms),
        public=STUDY.data.public,
        seed=STUDY.score.seed,
    message:
        "Drawing example reports"
    script:
        "../scripts/plot_examples.py"


rule plot_comparison:
    input:
        rules.plot_loss_curves.output,
        rules.plot_quality.output,
        rules.plot_cost.output,
        rules.plot_quality_cost.output,
        rules.plot_label_counts.output,
        rules.plot_split_balance.output,
        rules.plot_examples.output if STUDY.data.public else [],
