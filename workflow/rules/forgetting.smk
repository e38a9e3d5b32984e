# In: base, held-out examples of what it could do, runs/<arm>/seed-<s>/model. Out: forgetting/ and
# comparison/forgetting.csv. One job scores all runs: they are short, and most of a job on a small
# model is its start.
OWN_TASK = f"{RESULTS}/forgetting"
FORGOTTEN = f"{RESULTS}/comparison/forgetting.csv"
ALL_RUNS = [(arm, seed) for arm in STUDY.arms for seed in STUDY.train.seeds]
RUN_BASES = [BASES[arm].format(seed=seed) for arm, seed in ALL_RUNS]
UNTOUCHED = {base: f"{OWN_TASK}/{Path(base).name}.parquet" for base in sorted(set(RUN_BASES))}


if STUDY.forgetting and CONFIG.held_out is None:

    rule hold_out_pretraining:
        output:
            examples=f"{OWN_TASK}/examples.parquet",
            images=f"{OWN_TASK}/images/index.parquet",
            pixels=f"{OWN_TASK}/images/shard-0.npy",
        log:
            f"{RESULTS}/logs/hold_out_pretraining.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            examples=STUDY.forgetting.pretraining,
            size=STUDY.base.pretraining.image_size,
            seed=STUDY.base.pretraining.seed,
        message:
            "Drawing {params.examples} examples that pre-training has not seen"
        script:
            "../scripts/hold_out_pretraining.py"

elif STUDY.forgetting:

    rule read_forgetting:
        input:
            **{name: local(path) for name, path in CONFIG.held_out.inputs().items()},
        output:
            table=f"{OWN_TASK}/examples.parquet",
            account=f"{OWN_TASK}/examples.json",
        log:
            f"{RESULTS}/logs/read_forgetting.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            data=settings(STUDY.forgetting.data),
            site=settings(CONFIG.site, *CONFIG.held_out.site_keys),
        message:
            "Reading examples of what the base could do"
        script:
            "../scripts/read_examples.py"

    if TASK.images:

        use rule cache_images as cache_forgetting_images with:
            input:
                table=rules.read_forgetting.output.table,
            output:
                pixels=f"{OWN_TASK}/images/shard-{{shard}}.npy",
                index=f"{OWN_TASK}/images/shard-{{shard}}.parquet",
            log:
                f"{RESULTS}/logs/cache_forgetting_images/{{shard}}.log",
            params:
                root=CONFIG.held_out.root,
                cloud=CONFIG.held_out.cloud,
                shards=STUDY.images.shards,
                size=STUDY.images.size,
                colour=STUDY.images.colour,
                verify=STUDY.images.verify,
            message:
                "Caching images of what the base could do, shard {wildcards.shard}"

        use rule index_images as index_forgetting_images with:
            input:
                table=rules.read_forgetting.output.table,
                shards=expand(rules.cache_forgetting_images.output.index, shard=SHARDS),
            output:
                index=f"{OWN_TASK}/images/index.parquet",
                account=f"{OWN_TASK}/images/account.json",
            log:
                f"{RESULTS}/logs/index_forgetting_images.log",


if STUDY.forgetting:

    rule forget:
        input:
            **({"images": f"{OWN_TASK}/images/index.parquet"} if TASK.images else {}),
            models=runs(f"{RUN}/model"),
            bases=list(UNTOUCHED),
            train=SPLITS["train"],
            examples=f"{OWN_TASK}/examples.parquet",
        output:
            before=list(UNTOUCHED.values()),
            after=runs(f"{RUN}/forgetting.parquet"),
            drift=f"{OWN_TASK}/drift.csv",
        log:
            f"{RESULTS}/logs/forget.log",
        benchmark:
            f"{RESULTS}/benchmarks/forget.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=16000,
            runtime=120 + 10 * len(ALL_RUNS),
        params:
            task=CONFIG.own_task,
            arms={arm: arm_protocol(arm) for arm in STUDY.arms},
            runs=ALL_RUNS,
            base_of_run=[list(UNTOUCHED).index(base) for base in RUN_BASES],
            train=settings(STUDY.train, "precision", "threads"),
        message:
            "Scoring all runs on what their bases could do"
        script:
            "../scripts/forget.py"

    rule compare_forgetting:
        input:
            before=[UNTOUCHED[base] for base in RUN_BASES],
            after=rules.forget.output.after,
            drift=rules.forget.output.drift,
            train=SPLITS["train"],
        output:
            table=report(
                FORGOTTEN,
                caption="../report/forgetting_table.rst",
                category="1. Comparison",
                labels={"what": "What is forgotten"},
            ),
        log:
            f"{RESULTS}/logs/compare_forgetting.log",
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            runs=ALL_RUNS,
            task=CONFIG.own_task,
            confidence=STUDY.score.confidence,
        message:
            "Comparing what is forgotten"
        script:
            "../scripts/compare_forgetting.py"
