# In: cohort/examples.parquet. Out: splits/{train,val,test}.parquet.


rule stratify_splits:
    input:
        table=EXAMPLES,
    output:
        **SPLITS,
        csv=expand(f"{RESULTS}/splits/{{split}}.csv", split=["train", "val", "test"]),
        balance=f"{RESULTS}/splits/balance.csv",
        account=f"{RESULTS}/splits/account.json",
    log:
        f"{RESULTS}/logs/stratify_splits.log",
    benchmark:
        f"{RESULTS}/benchmarks/stratify_splits.tsv"
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        unit=STUDY.split.unit or list(SOURCE.units)[0],
        units=dict(SOURCE.units),
        split=settings(STUDY.split),
    message:
        "Dividing by {params.unit} into training, validation and test"
    script:
        "../scripts/stratify_splits.py"
