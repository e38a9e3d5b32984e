# In: the comparison. Out: what a reader, a paper and a hub are given, and the hashes of it all.


rule write_up:
    input:
        table=rules.compare_arms.output.table,
        words=rules.compare_arms.output.words,
        manifest=rules.compare_arms.output.manifest,
        account=rules.stratify_splits.output.account,
    output:
        summary=report(
            f"{RESULTS}/comparison/summary.txt",
            caption="../report/summary.rst",
            category="1. Comparison",
            labels={"what": "In one paragraph"},
        ),
        methods=f"{RESULTS}/comparison/methods.md",
        latex=f"{RESULTS}/comparison/table.tex",
    log:
        f"{RESULTS}/logs/write_up.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        study=CONFIG.name,
        config=settings(STUDY),
        confidence=STUDY.score.confidence,
        tested=STUDY.score.tested,
    message:
        "Writing the study up"
    script:
        "../scripts/write_up.py"


rule write_cards:
    input:
        models=runs(f"{RUN}/model"),
        scores=runs(rules.score.output.scores),
        table=rules.compare_arms.output.table,
        words=rules.compare_arms.output.words,
    output:
        cards=runs(f"{RESULTS}/cards/{{arm}}.seed-{{seed}}.md"),
    log:
        f"{RESULTS}/logs/write_cards.log",
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        runs=[(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds],
        bases={
            arm: STUDY.base_of(arm).id
            for arm in STUDY.arms
            if STUDY.base_of(arm).kind == "fetched" and not STUDY.base_of(arm).is_folder
        },
        config=settings(STUDY, "task", "data"),
        study=CONFIG.name,
        kind=TASK.hub_kind,
        confidence=STUDY.score.confidence,
        terms=data_terms(CONFIG),
    message:
        "Writing model cards"
    script:
        "../scripts/write_cards.py"


rule seal:
    input:
        rules.compare_arms.output,
        rules.plot_comparison.input,
        rules.write_up.output,
        rules.write_cards.output,
        EXAMPLES,
        rules.stratify_splits.output,
        runs(rules.predict.output),
        runs(rules.score.output),
        runs(f"{RUN}/model"),
        runs(f"{RUN}/history.csv"),
        runs(f"{RUN}/cost.json"),
    output:
        manifest=f"{RESULTS}/manifest.json",
    log:
        f"{RESULTS}/logs/seal.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        study=CONFIG.name,
        config=settings(STUDY),
    message:
        "Hashing the finished study"
    script:
        "../scripts/seal.py"


# Without inputs: what was changed by hand would be made anew before anyone could tell.
rule verify:
    log:
        f"{RESULTS}/logs/verify.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        root=placed(RESULTS),
    message:
        "Hashing the study's files again"
    script:
        "../scripts/verify.py"
