# In: predictions of all runs, with the likelihoods of statements. Out: comparison/likelihoods.csv,
# comparison/reliability.csv and their figure; nothing where the task asks for none.
LIKELIHOODS, LIKELIHOOD_FIGURES = [], []

if STUDY.score.probe and TASK.discriminates(settings(STUDY.task)):

    rule compare_likelihoods:
        input:
            predictions=runs(rules.predict.output.predictions),
            train=SPLITS["train"],
        output:
            table=f"{RESULTS}/comparison/likelihoods.csv",
            reliability=f"{RESULTS}/comparison/reliability.csv",
        log:
            f"{RESULTS}/logs/compare_likelihoods.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
            task=settings(STUDY.task),
            reference=CONFIG.reference,
            confidence=STUDY.score.confidence,
        message:
            "Comparing likelihoods of statements"
        script:
            "../scripts/compare_likelihoods.py"

    rule plot_likelihoods:
        input:
            table=rules.compare_likelihoods.output.table,
            reliability=rules.compare_likelihoods.output.reliability,
        output:
            figure("likelihoods", "1. Comparison", "What the likelihoods tell"),
        log:
            f"{RESULTS}/logs/plot_likelihoods.log",
        conda:
            "../../envs/tables.yaml"
        message:
            "Drawing what the likelihoods tell"
        script:
            "../scripts/plot_likelihoods.py"

    LIKELIHOODS = rules.compare_likelihoods.output.table
    LIKELIHOOD_FIGURES = rules.plot_likelihoods.output
