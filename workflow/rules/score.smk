# In: runs/<arm>/seed-<s>/model. Out: runs/<arm>/seed-<s>/{predictions.parquet,scores.json,
# sums.parquet}.


rule generate:
    input:
        model=f"{RESULTS}/runs/{{arm}}/seed-{{seed}}/model",
        base=BASE,
        test=f"{RESULTS}/splits/test.parquet",
        index=rules.index_images.output.index,
        # The library's beam search takes pixels only.
        features=lambda wildcards: (
            cached_features(STUDY.arms[wildcards.arm]) if STUDY.score.num_beams == 1 else []
        ),
    output:
        predictions=f"{RESULTS}/runs/{{arm}}/seed-{{seed}}/predictions.parquet",
    log:
        f"{RESULTS}/logs/generate/{{arm}}.seed-{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate/{{arm}}.seed-{{seed}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.train.threads
    resources:
        **gpu_job(gpu_model="a100"),
        gpu=1,
        mem_mb=16000,
        runtime=120,
    params:
        train=settings(STUDY.train, "prompt", "max_tokens", "too_long", "precision", "threads"),
        score=settings(STUDY.score, "max_new_tokens", "num_beams", "shuffle_images", "seed"),
    message:
        "Writing reports with {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/generate.py"


rule score:
    input:
        predictions=rules.generate.output.predictions,
        train=f"{RESULTS}/splits/train.parquet",
    output:
        scores=f"{RESULTS}/runs/{{arm}}/seed-{{seed}}/scores.json",
        sums=f"{RESULTS}/runs/{{arm}}/seed-{{seed}}/sums.parquet",
    log:
        f"{RESULTS}/logs/score/{{arm}}.seed-{{seed}}.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        template=STUDY.report.template,
        score=settings(STUDY.score, "bootstrap_samples", "confidence", "seed"),
    message:
        "Scoring {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/score.py"
