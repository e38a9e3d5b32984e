# In: cohort/examples.parquet and the images of a folder or of cloud storage.
# Out: images/shard-*.npy, images/index.parquet and, of the splits, images/equal.json.


rule cache_images:
    input:
        table=EXAMPLES,
        # As a function, or the linter takes the root, where these lie, for a prefix of theirs.
        tables=lambda wildcards: list(SOURCE_INPUTS.values()),
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
        root=SOURCE_ROOT,
        cloud=SOURCE.cloud,
        shards=STUDY.images.shards,
        size=STUDY.images.size,
        colour=STUDY.images.colour,
        verify=STUDY.images.verify,
    message:
        "Caching images, shard {wildcards.shard} of {params.shards}"
    script:
        "../scripts/cache_images.py"


rule index_images:
    input:
        table=EXAMPLES,
        shards=expand(rules.cache_images.output.index, shard=SHARDS),
    output:
        index=IMAGES,
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


rule count_equal_images:
    input:
        **SPLITS,
        index=IMAGES,
        pixels=expand(rules.cache_images.output.pixels, shard=SHARDS),
    output:
        account=f"{RESULTS}/images/equal.json",
    log:
        f"{RESULTS}/logs/count_equal_images.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    message:
        "Counting equal images in two splits"
    script:
        "../scripts/count_equal_images.py"
