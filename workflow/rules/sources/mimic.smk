# In: a MIMIC-CXR-JPG tree's CSVs, or BigQuery. Out: cohort/examples.parquet.


rule query_metadata:
    input:
        **SOURCE_INPUTS,
        sql=workflow.source_path("../../../resources/query_metadata.sql"),
    output:
        table=f"{RESULTS}/cohort/metadata.parquet",
        account=f"{RESULTS}/cohort/metadata.json",
    log:
        f"{RESULTS}/logs/query_metadata.log",
    benchmark:
        f"{RESULTS}/benchmarks/query_metadata.tsv"
    conda:
        "../../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        views=list(STUDY.data.views),
        limit=STUDY.data.limit,
        cloud=SOURCE.cloud,
    message:
        "Joining image metadata with CheXpert labels"
    script:
        "../../scripts/query_metadata.py"


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
        "../../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        sample=settings(STUDY.sample),
    message:
        "Drawing up to {params.sample[quota]} positives a label"
    script:
        "../../scripts/sample_5000_per_label.py"


rule make_reports:
    input:
        table=rules.sample_5000_per_label.output.table,
    output:
        table=EXAMPLES,
        account=f"{RESULTS}/cohort/examples.json",
    log:
        f"{RESULTS}/logs/make_reports.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_reports.tsv"
    conda:
        "../../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        report=settings(STUDY.report),
    message:
        "Writing mini-reports from labels"
    script:
        "../../scripts/make_reports.py"


# Asked for by name, and made anew each time: it has no output. The cohort is no input either, as
# asking what the query would cost must not run the query.
rule plan_download:
    input:
        sql=workflow.source_path("../../../resources/query_metadata.sql"),
    log:
        f"{RESULTS}/logs/plan_download.log",
    localrule: True
    conda:
        "../../../envs/tables.yaml"
    params:
        reports=placed(EXAMPLES),
        root=SOURCE_ROOT,
        cloud=SOURCE.cloud,
        views=list(STUDY.data.views),
        limit=STUDY.data.limit,
        quota=STUDY.sample.quota,
        size=STUDY.images.size,
        results=placed(RESULTS),
        output=placed(f"{RESULTS}/download_plan.json"),
    message:
        "Planning the download"
    script:
        "../../scripts/plan_download.py"


rule plot_label_counts:
    input:
        all=rules.query_metadata.output.table,
        sampled=rules.sample_5000_per_label.output.table,
        splits=list(SPLITS.values()),
    output:
        figure(
            "label_counts",
            "3. Data",
            "Positive labels through the chain",
            "../../report/label_counts.rst",
        ),
    log:
        f"{RESULTS}/logs/plot_label_counts.log",
    conda:
        "../../../envs/tables.yaml"
    message:
        "Drawing label counts through the chain"
    script:
        "../../scripts/plot_label_counts.py"


SOURCE_FIGURES += rules.plot_label_counts.output
