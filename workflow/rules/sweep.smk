# In: scores, sums and costs of arms that differ in rank or learning rate alone, and of the reference.
# Out: comparison/<key>_sweep.csv, comparison/<key>_spread.csv and their figure; nothing of others.
SWEEPS = CONFIG.swept
# Points and spreads of each key, in the order of `SWEEPS`.
SWEEP_TABLES, SWEEP_FIGURES = [], []

for swept_key, swept_arms in SWEEPS.items():
    sweep_arms = list(
        dict.fromkeys([*swept_arms, *([CONFIG.reference] if CONFIG.reference else [])])
    )
    sweep_runs = {"arm": sweep_arms, "seed": STUDY.train.seeds}

    rule:
        name:
            f"compare_{swept_key}_sweep"
        input:
            scores=expand(rules.score.output.scores, **sweep_runs),
            sums=expand(rules.score.output.sums, **sweep_runs),
            costs=expand(f"{RUN}/cost.json", **sweep_runs),
            train=SPLITS["train"],
        output:
            points=f"{RESULTS}/comparison/{swept_key}_sweep.csv",
            spreads=f"{RESULTS}/comparison/{swept_key}_spread.csv",
        log:
            f"{RESULTS}/logs/compare_{swept_key}_sweep.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            runs=[(arm, seed) for arm in sweep_arms for seed in STUDY.train.seeds],
            arms={arm: settings(STUDY.arms[arm]) for arm in sweep_arms},
            # In a list: the linter takes a text `r` for the beginning of `results/`.
            swept=[swept_key],
            reference=CONFIG.reference,
            task=settings(STUDY.task),
            published=PUBLISHED,
            confidence=STUDY.score.confidence,
        message:
            f"Comparing arms over {SWEPT[swept_key]}"
        script:
            "../scripts/compare_sweep.py"

    rule:
        name:
            f"plot_{swept_key}_sweep"
        input:
            points=[f"{RESULTS}/comparison/{swept_key}_sweep.csv"],
            spreads=[f"{RESULTS}/comparison/{swept_key}_spread.csv"],
        output:
            figure(
                f"{swept_key}_sweep",
                "1. Comparison",
                f"Quality over {SWEPT[swept_key]}",
                "../report/sweep.rst",
            ),
        log:
            f"{RESULTS}/logs/plot_{swept_key}_sweep.log",
        conda:
            "../../envs/tables.yaml"
        params:
            studies=[CONFIG.name],
            swept=[swept_key],
        message:
            f"Drawing quality over {SWEPT[swept_key]}"
        script:
            "../scripts/plot_sweep.py"

    SWEEP_TABLES += [
        f"{RESULTS}/comparison/{swept_key}_{table}.csv" for table in ("sweep", "spread")
    ]
    SWEEP_FIGURES += multiext(f"{RESULTS}/figures/{swept_key}_sweep", ".svg", ".png", ".csv")
