# In: a MIMIC-CXR-JPG tree's CSVs, or BigQuery. Out: splits/{train,val,test}.parquet.


rule query_metadata:
    input:
        unpack(tree_tables),
        sql=workflow.source_path("../../resources/query_metadata.sql"),
    output:
        table=f"{RESULTS}/cohort/metadata.parquet",
        account=f"{RESULTS}/cohort/metadata.json",
    log:
        f"{RESULTS}/logs/query_metadata.log",
    benchmark:
        f"{RESULTS}/benchmarks/query_metadata.tsv"
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        views=list(STUDY.data.views),
        limit=STUDY.data.limit,
        cloud=settings(CONFIG.site.cloud) if CONFIG.source == "bigquery" else None,
    message:
        "Joining image metadata with CheXpert labels"
    script:
        "../scripts/query_metadata.py"


rule sample_5000_per_label:
    input:
        table=rules.query_metadata.output.table,
    output:
        table=f"{RESULTS}/cohort/sampled_5000_per_label.parquet",
        csv=f"{RESULTS}/cohort/sampled_5000_per_label.csv",
        account=f"{RESULTS}/cohort/sampled_5000_per_label.account.csv",
    log:
        f"{RESULTS}/logs/sample_5000_per_label.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample_5000_per_label.tsv"
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        sample=settings(STUDY.sample),
    message:
        "Drawing up to {params.sample[quota]} positives a label"
    script:
        "../scripts/sample_5000_per_label.py"


rule make_reports:
    input:
        table=rules.sample_5000_per_label.output.table,
    output:
        table=f"{RESULTS}/cohort/reports.parquet",
        account=f"{RESULTS}/cohort/reports.json",
    log:
        f"{RESULTS}/logs/make_reports.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_reports.tsv"
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        report=settings(STUDY.report),
    message:
        "Writing mini-reports from labels"
    script:
        "../scripts/make_reports.py"


rule stratify_splits:
    input:
        table=rules.make_reports.output.table,
    output:
        train=f"{RESULTS}/splits/train.parquet",
        val=f"{RESULTS}/splits/val.parquet",
        test=f"{RESULTS}/splits/test.parquet",
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
        split=settings(STUDY.split),
    message:
        "Dividing by {params.split[unit]} into training, validation and test"
    script:
        "../scripts/stratify_splits.py"
