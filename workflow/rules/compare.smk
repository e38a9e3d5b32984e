# In: scores, sums, histories and costs of all runs. Out: comparison/ and figures/.


rule compare_arms:
    input:
        **({"forgetting": FORGOTTEN} if STUDY.forgetting else {}),
        **({"sweeps": SWEEP_TABLES} if SWEEP_TABLES else {}),
        scores=runs(rules.score.output.scores),
        sums=runs(rules.score.output.sums),
        costs=runs(f"{RUN}/cost.json"),
        by_group=rules.compare_by_group.output,
        likelihoods=LIKELIHOODS,
        tokens=TOKENS,
        train=SPLITS["train"],
        accounts=[
            rules.stratify_splits.output.account,
            *([rules.count_equal_images.output.account] if TASK.images else []),
        ],
        trials=expand(TRIALS, arm=GRIDS),
        views=rules.compare_views.output.table if TRAINED else [],
        pareto=rules.find_pareto_fronts.output.table,
    output:
        words=f"{RESULTS}/comparison/words.json",
        looks=f"{RESULTS}/comparison/looks.csv",
        estimates=f"{RESULTS}/comparison/estimates.json",
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
        **({"swept": list(SWEEPS)} if SWEEPS else {}),
        runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
        arms={name: settings(arm) for name, arm in STUDY.arms.items()},
        tuned=list(GRIDS),
        task=settings(STUDY.task),
        reference=CONFIG.reference,
        group=SOURCE.group,
        study=CONFIG.name,
        config=settings(STUDY),
        confidence=STUDY.score.confidence,
        published=PUBLISHED,
    message:
        "Comparing arms"
    script:
        "../scripts/compare_arms.py"


# What others trained, by itself: nothing is trained for it, and one seed is as good as any.
ELSEWHERE = [arm for arm in UNTRAINED if METHODS[arm].elsewhere]
OTHER_RUNS = f"{RUN}/{{name}}".replace("{seed}", str(STUDY.train.seeds[0]))

if ELSEWHERE:

    use rule compare_arms as compare_others with:
        input:
            scores=expand(OTHER_RUNS, arm=ELSEWHERE, name="scores.json"),
            sums=expand(OTHER_RUNS, arm=ELSEWHERE, name="sums.parquet"),
            costs=expand(OTHER_RUNS, arm=ELSEWHERE, name="cost.json"),
            train=SPLITS["train"],
            accounts=rules.compare_arms.input.accounts,
            trials=[],
        output:
            words=f"{RESULTS}/others/words.json",
            looks=f"{RESULTS}/others/looks.csv",
            estimates=f"{RESULTS}/others/estimates.json",
            table=f"{RESULTS}/others/comparison.csv",
            markdown=f"{RESULTS}/others/comparison.md",
            page=f"{RESULTS}/others/comparison.html",
            manifest=f"{RESULTS}/others/manifest.json",
        log:
            f"{RESULTS}/logs/compare_others.log",
        params:
            runs=[(arm, STUDY.train.seeds[0]) for arm in ELSEWHERE],
            arms={name: settings(STUDY.arms[name]) for name in ELSEWHERE},
            tuned=[],
            task=settings(STUDY.task),
            reference=CONFIG.reference if CONFIG.reference in ELSEWHERE else None,
            group=SOURCE.group,
            study=CONFIG.name,
            config=settings(STUDY),
            confidence=STUDY.score.confidence,
            published=PUBLISHED,
        message:
            "Comparing what others trained"

    rule score_others:
        input:
            rules.compare_others.output,


rule plot_loss_curves:
    input:
        histories=[
            f"{RESULTS}/runs/{arm}/seed-{seed}/history.csv"
            for arm in TRAINED
            for seed in STUDY.train.seeds
        ],
    output:
        figure("loss_curves", "2. Training", "Loss by epoch"),
    log:
        f"{RESULTS}/logs/plot_loss_curves.log",
    conda:
        "../../envs/tables.yaml"
    params:
        runs=[(arm, seed) for arm in TRAINED for seed in STUDY.train.seeds],
    message:
        "Drawing loss curves"
    script:
        "../scripts/plot_loss_curves.py"


rule plot_quality:
    input:
        table=rules.compare_arms.output.table,
        words=rules.compare_arms.output.words,
    output:
        figure("quality", "1. Comparison", "Quality by arm"),
    log:
        f"{RESULTS}/logs/plot_quality.log",
    conda:
        "../../envs/tables.yaml"
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
        words=rules.compare_arms.output.words,
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


if STUDY.forgetting:

    rule plot_forgetting:
        input:
            table=FORGOTTEN,
            comparison=rules.compare_arms.output.table,
            words=rules.compare_arms.output.words,
        output:
            figure("forgetting", "1. Comparison", "Forgetting against quality"),
        log:
            f"{RESULTS}/logs/plot_forgetting.log",
        conda:
            "../../envs/tables.yaml"
        message:
            "Drawing what is forgotten against quality"
        script:
            "../scripts/plot_forgetting.py"


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


TASK_FIGURES = []

# Examples of patients never reach a figure: some exist for public data alone.
for figure_name, task_figure in TASK.figures.items():
    if STUDY.data.public or not task_figure.public_only:

        rule:
            name:
                f"plot_{figure_name}"
            input:
                **({"images": IMAGES} if TASK.images else {}),
                predictions=first_runs(rules.predict.output.predictions),
                models=first_runs(f"{RUN}/model") if task_figure.needs_model else [],
                bases=(
                    [BASES[arm].format(seed=STUDY.train.seeds[0]) for arm in STUDY.arms]
                    if task_figure.needs_model
                    else []
                ),
                train=SPLITS["train"],
            output:
                figure(figure_name, "4. Examples", task_figure.title, task_figure.caption),
            log:
                f"{RESULTS}/logs/plot_{figure_name}.log",
            conda:
                "../../envs/torch.yaml" if task_figure.needs_model else "../../envs/tables.yaml"
            resources:
                **(
                    {**gpu_job(gpu_model="a100"), "gpu": 1, "mem_mb": 16000, "runtime": 60}
                    if task_figure.needs_model
                    else {}
                ),
            params:
                name=figure_name,
                task=settings(STUDY.task),
                arms={arm: arm_protocol(arm) for arm in STUDY.arms},
                public=STUDY.data.public,
                seed=STUDY.score.seed,
            message:
                f"Drawing {task_figure.title.lower()}"
            script:
                "../scripts/plot_task_figure.py"

        TASK_FIGURES += multiext(f"{RESULTS}/figures/{figure_name}", ".svg", ".png", ".csv")


rule plot_comparison:
    input:
        rules.plot_loss_curves.output,
        TUNING_FIGURES,
        rules.plot_quality.output,
        rules.plot_cost.output,
        rules.plot_quality_cost.output,
        rules.plot_views.output,
        rules.plot_pareto_fronts.output,
        SOURCE_FIGURES,
        rules.plot_forgetting.output if STUDY.forgetting else [],
        rules.plot_split_balance.output,
        GROUP_FIGURES,
        LIKELIHOOD_FIGURES,
        SWEEP_FIGURES,
        TASK_FIGURES,
        CLAIM_FIGURES,
        QUESTION_PAGES,
