# In: runs/<arm>/seed-<s>/model. Out: runs/<arm>/seed-<s>/{predictions.parquet,scores.json,
# sums.parquet}, and nearest.parquet, what the nearest training example has in place of a prediction.


rule predict:
    input:
        unpack(assets(None, predicting=True)),
        model=f"{RUN}/model",
        base=base_of,
        train=SPLITS["train"],
        test=SPLITS["test"],
    output:
        predictions=f"{RUN}/predictions.parquet",
    log:
        f"{RESULTS}/logs/predict/{{arm}}.seed-{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{{arm}}.seed-{{seed}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.train.threads
    resources:
        **gpu_job(gpu_model="a100"),
        gpu=1,
        mem_mb=16000,
        runtime=120,
    params:
        task=settings(STUDY.task),
        arm=lambda wildcards: arm_protocol(wildcards.arm),
        train=settings(STUDY.train, "precision", "threads"),
        score=settings(STUDY.score, "shuffle_inputs", "controls", "probe", "seed"),
    message:
        "Predicting with {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/predict.py"


if TASK.nearest:

    rule look_up_nearest:
        input:
            **({"images": IMAGES} if TASK.images else {}),
            train=SPLITS["train"],
            test=SPLITS["test"],
        output:
            table=f"{RESULTS}/nearest.parquet",
        log:
            f"{RESULTS}/logs/look_up_nearest.log",
        benchmark:
            f"{RESULTS}/benchmarks/look_up_nearest.tsv"
        conda:
            "../../envs/tables.yaml"
        resources:
            mem_mb=8000,
            runtime=60,
        params:
            task=settings(STUDY.task),
        message:
            "Looking up the nearest training examples"
        script:
            "../scripts/look_up_nearest.py"


rule score:
    input:
        predictions=rules.predict.output.predictions,
        nearest=rules.look_up_nearest.output.table if TASK.nearest else [],
        train=SPLITS["train"],
    output:
        scores=f"{RUN}/scores.json",
        sums=f"{RUN}/sums.parquet",
    log:
        f"{RESULTS}/logs/score/{{arm}}.seed-{{seed}}.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        task=settings(STUDY.task),
        score=settings(STUDY.score, "bootstrap_samples", "confidence", "seed"),
    message:
        "Scoring {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/score.py"
