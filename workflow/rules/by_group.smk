# In: sums of all runs, and predictions where the study names subgroups. Out: comparison/by_group.csv
# and a figure of each column.
SUBGROUPS = STUDY.score.subgroups


rule compare_by_group:
    input:
        sums=runs(rules.score.output.sums),
        predictions=runs(rules.predict.output.predictions) if SUBGROUPS else [],
        test=SPLITS["test"] if SUBGROUPS else [],
        train=SPLITS["train"],
    output:
        table=f"{RESULTS}/comparison/by_group.csv",
        account=f"{RESULTS}/comparison/by_group.json",
    log:
        f"{RESULTS}/logs/compare_by_group.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
        columns=list(SUBGROUPS),
        public=STUDY.data.public,
        task=settings(STUDY.task),
        reference=CONFIG.reference,
        confidence=STUDY.score.confidence,
    message:
        "Comparing arms by subgroup"
    script:
        "../scripts/compare_by_group.py"


GROUP_FIGURES = []

for group_column in (*TASK.told(settings(STUDY.task)), *SUBGROUPS):

    rule:
        name:
            f"plot_by_{group_column}"
        input:
            table=rules.compare_by_group.output.table,
            account=rules.compare_by_group.output.account,
        output:
            figure(
                f"by_{group_column}",
                "1. Comparison",
                f"Scores by {group_column.replace('_', ' ')}",
                "../report/by_group.rst",
            ),
        log:
            f"{RESULTS}/logs/plot_by_{group_column}.log",
        conda:
            "../../envs/tables.yaml"
        params:
            column=group_column,
        message:
            f"Drawing scores by {group_column.replace('_', ' ')}"
        script:
            "../scripts/plot_by_group.py"

    GROUP_FIGURES += multiext(f"{RESULTS}/figures/by_{group_column}", ".svg", ".png", ".csv")
