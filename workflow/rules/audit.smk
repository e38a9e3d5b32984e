# In: models, predictions and costs of all runs. Out: comparison/{claims.csv,claimed.csv,audit.md},
# figures/claims.*. There where arms have defects of a published protocol (`as_published`).
if AUDITED:

    rule claim:
        input:
            **({"images": IMAGES} if TASK.images else {}),
            models=runs(f"{RUN}/model"),
            bases=[BASES[arm].format(seed=seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
            predictions=runs(rules.predict.output.predictions),
            costs=runs(f"{RUN}/cost.json"),
            train=SPLITS["train"],
            test=SPLITS["test"],
        output:
            claims=f"{RESULTS}/comparison/claims.csv",
        log:
            f"{RESULTS}/logs/claim.log",
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=16000,
            runtime=120,
        params:
            runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
            arms={name: settings(arm) for name, arm in STUDY.arms.items()},
            task=settings(STUDY.task),
            train=settings(STUDY.train, "precision", "threads"),
        message:
            "Measuring what the published protocol would have claimed"
        script:
            "../scripts/claim.py"

    rule compare_claims:
        input:
            claims=rules.claim.output.claims,
            table=rules.compare_arms.output.table,
            words=rules.compare_arms.output.words,
        output:
            table=f"{RESULTS}/comparison/claimed.csv",
            page=f"{RESULTS}/comparison/audit.md",
        log:
            f"{RESULTS}/logs/compare_claims.log",
        conda:
            "../../envs/tables.yaml"
        params:
            arms={name: settings(arm) for name, arm in STUDY.arms.items()},
            study=CONFIG.name,
            confidence=STUDY.score.confidence,
        message:
            "Setting claims beside the truth"
        script:
            "../scripts/compare_claims.py"

    rule plot_claims:
        input:
            table=rules.compare_claims.output.table,
            words=rules.compare_arms.output.words,
        output:
            figure("claims", "1. Comparison", "Claimed and true"),
        log:
            f"{RESULTS}/logs/plot_claims.log",
        conda:
            "../../envs/tables.yaml"
        message:
            "Drawing claims beside the truth"
        script:
            "../scripts/plot_claims.py"

    rule audit:
        input:
            rules.compare_claims.output,
            rules.plot_claims.output,
