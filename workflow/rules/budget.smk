# In: histories, sums and costs of all runs. Out: comparison/{views,pareto}.csv and their figures.
TRAINED_RUNS = [(arm, seed) for arm in TRAINED for seed in STUDY.train.seeds]


rule compare_views:
    input:
        histories=[f"{RESULTS}/runs/{arm}/seed-{seed}/history.csv" for arm, seed in TRAINED_RUNS],
    output:
        table=report(
            f"{RESULTS}/comparison/views.csv",
            caption="../report/views_table.rst",
            category="2. Training",
            labels={"what": "At equal budgets, as a table"},
        ),
    log:
        f"{RESULTS}/logs/compare_views.log",
    conda:
        "../../envs/tables.yaml"
    params:
        runs=TRAINED_RUNS,
        reference=CONFIG.reference,
    message:
        "Comparing arms at equal epochs, steps, time and energy"
    script:
        "../scripts/compare_views.py"


rule plot_views:
    input:
        histories=rules.compare_views.input.histories,
        table=rules.compare_views.output.table,
    output:
        figure("views", "2. Training", "Loss by what was spent"),
    log:
        f"{RESULTS}/logs/plot_views.log",
    conda:
        "../../envs/tables.yaml"
    params:
        runs=TRAINED_RUNS,
    message:
        "Drawing validation loss by epochs, steps, time and energy"
    script:
        "../scripts/plot_views.py"


rule find_pareto_fronts:
    input:
        sums=runs(rules.score.output.sums),
        costs=runs(f"{RUN}/cost.json"),
        train=SPLITS["train"],
    output:
        table=report(
            f"{RESULTS}/comparison/pareto.csv",
            caption="../report/pareto_table.rst",
            category="1. Comparison",
            labels={"what": "Pareto fronts, as a table"},
        ),
    log:
        f"{RESULTS}/logs/find_pareto_fronts.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
        task=settings(STUDY.task),
        confidence=STUDY.score.confidence,
    message:
        "Finding the Pareto fronts"
    script:
        "../scripts/find_pareto_fronts.py"


rule plot_pareto_fronts:
    input:
        table=rules.find_pareto_fronts.output.table,
        words=f"{RESULTS}/comparison/words.json",
    output:
        figure("pareto", "1. Comparison", "Pareto fronts of quality and cost"),
    log:
        f"{RESULTS}/logs/plot_pareto_fronts.log",
    conda:
        "../../envs/tables.yaml"
    message:
        "Drawing the Pareto fronts"
    script:
        "../scripts/plot_pareto_fronts.py"
