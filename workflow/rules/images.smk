# In: cohort/reports.parquet and the images of a tree or of cloud storage.
# Out: images/shard-*.npy and images/index.parquet.


rule render_phantom:
    output:
        metadata=f"{RESULTS}/phantom/mimic-cxr-2.0.0-metadata.csv.gz",
        chexpert=f"{RESULTS}/phantom/mimic-cxr-2.0.0-chexpert.csv.gz",
        split=f"{RESULTS}/phantom/mimic-cxr-2.0.0-split.csv.gz",
        checksums=f"{RESULTS}/phantom/SHA256SUMS.txt",
        files=directory(f"{RESULTS}/phantom/files"),
    log:
        f"{RESULTS}/logs/render_phantom.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        phantom=settings(STUDY.data.phantom),
        root=subpath(output.metadata, parent=True),
    message:
        "Rendering chest phantoms of {params.phantom[subjects]} subjects"
    script:
        "../scripts/render_phantom.py"


rule cache_images:
    input:
        table=rules.make_reports.output.table,
        tables=(lambda wildcards: list(tree_tables(wildcards).values())),
    output:
        pixels=f"{RESULTS}/images/shard-{{shard}}.npy",
        index=f"{RESULTS}/images/shard-{{shard}}.parquet",
    log:
        f"{RESULTS}/logs/cache_images/{{shard}}.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        root=tree_root(),
        cloud=settings(CONFIG.site.cloud) if CONFIG.source == "bigquery" else None,
        shards=STUDY.images.shards,
        size=STUDY.images.size,
        verify=STUDY.images.verify,
    message:
        "Caching images, shard {wildcards.shard} of {params.shards}"
    script:
        "../scripts/cache_images.py"


rule index_images:
    input:
        table=rules.make_reports.output.table,
        shards=expand(rules.cache_images.output.index, shard=SHARDS),
    output:
        index=f"{RESULTS}/images/index.parquet",
        account=f"{RESULTS}/images/account.json",
    log:
        f"{RESULTS}/logs/index_images.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        images=settings(STUDY.images, "on_bad_image", "max_dropped_share"),
    message:
        "Collecting the image index"
    script:
        "../scripts/index_images.py"


# Asked for by name, and made anew each time: it has no output. The cohort is no input either, as
# asking what the query would cost must not run the query.
rule plan_download:
    input:
        sql=workflow.source_path("../../resources/query_metadata.sql"),
    log:
        f"{RESULTS}/logs/plan_download.log",
    localrule: True
    conda:
        "../../envs/tables.yaml"
    params:
        reports=f"{RESULTS}/cohort/reports.parquet",
        root=tree_root(),
        cloud=settings(CONFIG.site.cloud) if CONFIG.source == "bigquery" else None,
        views=list(STUDY.data.views),
        limit=STUDY.data.limit,
        quota=STUDY.sample.quota,
        size=STUDY.images.size,
        results=RESULTS,
        output=f"{RESULTS}/download_plan.json",
    message:
        "Planning the download"
    script:
        "../scripts/plan_download.py"
