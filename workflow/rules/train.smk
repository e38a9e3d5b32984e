# In: splits, images, base. Out: runs/<arm>/seed-<s>/{model,history.csv,cost.json}.
# The rules of an arm are generated from the study: a fourth arm in YAML becomes a fourth rule.
# `train_<arm>_chunk` is one GPU job, a chunk of epochs in a fresh process that goes on from the
# chunk before it; `train_<arm>` asks for all seeds of the arm.
from peft_ablation.training.checkpoint import PROTOCOL_VERSION


rule cache_vision_features:
    input:
        base=BASE,
        index=rules.index_images.output.index,
    output:
        features=f"{RESULTS}/images/vision_features.npy",
    log:
        f"{RESULTS}/logs/cache_vision_features.log",
    benchmark:
        f"{RESULTS}/benchmarks/cache_vision_features.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: STUDY.train.threads
    resources:
        **gpu_job(gpu_model="a100"),
        gpu=1,
        mem_mb=16000,
        runtime=120,
    params:
        train=settings(STUDY.train, "precision", "threads"),
    message:
        "Caching the output of the frozen vision tower"
    script:
        "../scripts/cache_vision_features.py"


for arm_name, arm_settings in STUDY.arms.items():

    rule:
        name:
            f"train_{arm_name}_chunk"
        input:
            base=BASE,
            train=f"{RESULTS}/splits/train.parquet",
            val=f"{RESULTS}/splits/val.parquet",
            index=rules.index_images.output.index,
            features=cached_features(arm_settings),
            previous=previous_chunk(arm_name),
        output:
            chunk=temp(directory(f"{RESULTS}/runs/{arm_name}/seed-{{seed}}/chunk-{{chunk}}")),
        log:
            f"{RESULTS}/logs/train/{arm_name}.seed-{{seed}}.chunk-{{chunk}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/train/{arm_name}.seed-{{seed}}.chunk-{{chunk}}.tsv"
        # Who submitted a job tries again, with more memory; the Snakemake inside a job does not.
        retries: 0 if workflow.remote_exec else 3
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu=STUDY.train.num_processes, gpu_model="a100", mem_mb=32000, runtime=720),
        params:
            task=STUDY.task,
            arm_name=arm_name,
            arm=settings(arm_settings),
            train=protocol(STUDY.train),
            protocol=PROTOCOL_VERSION,
            # No rule declares this folder: Snakemake deletes the declared outputs of a failed job.
            checkpoints=f"{RESULTS}/checkpoints/{arm_name}/seed-{{seed}}/chunk-{{chunk}}",
            tensorboard=f"{RESULTS}/tensorboard/{arm_name}/seed-{{seed}}",
        message:
            f"Training {arm_name}, seed {{wildcards.seed}}, chunk {{wildcards.chunk}} of {LAST_CHUNK}"
        script:
            "../scripts/train.py"

    rule:
        name:
            f"train_{arm_name}"
        input:
            expand(f"{RESULTS}/runs/{arm_name}/seed-{{seed}}/model", seed=STUDY.train.seeds),


rule select_checkpoint:
    input:
        chunk=f"{RUN}/chunk-{LAST_CHUNK}",
        base=BASE,
    output:
        model=directory(f"{RUN}/model"),
        history=f"{RUN}/history.csv",
        cost=f"{RUN}/cost.json",
    log:
        f"{RESULTS}/logs/select_checkpoint/{{arm}}.seed-{{seed}}.log",
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        arm=lambda wildcards: settings(STUDY.arms[wildcards.arm]),
        study=CONFIG.name,
    message:
        "Keeping the best epoch of {wildcards.arm}, seed {wildcards.seed}"
    script:
        "../scripts/select_checkpoint.py"
