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
