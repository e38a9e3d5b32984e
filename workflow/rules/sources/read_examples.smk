# In: files of the source. Out: cohort/examples.parquet.


rule read_examples:
    input:
        **SOURCE_INPUTS,
    output:
        table=EXAMPLES,
        account=f"{RESULTS}/cohort/examples.json",
    log:
        f"{RESULTS}/logs/read_examples.log",
    benchmark:
        f"{RESULTS}/benchmarks/read_examples.tsv"
    conda:
        "../../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        data=settings(STUDY.data),
        site=source_site(),
    message:
        "Reading examples"
    script:
        "../../scripts/read_examples.py"
