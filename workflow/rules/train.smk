# In: splits, what the task reads besides, base. Out: runs/<arm>/seed-<s>/{model,history.csv,cost.json}.
# The rules of an arm are generated from the study: a fourth arm in YAML becomes a fourth rule.
# `train_<arm>_chunk` is one GPU job, a chunk of epochs in a fresh process that goes on from the
# chunk before it; `train_<arm>` asks for all seeds of the arm.
from peft_ablation.training.checkpoint import PROTOCOL_VERSION

TRAINED = [arm for arm, method in METHODS.items() if method.trains]
COMPOSED = [arm for arm, method in METHODS.items() if method.parts]
UNTRAINED = [arm for arm, method in METHODS.items() if not method.trains and not method.parts]


# Of the base itself, not of what the task has made of it: another head has the same features.
for base_folder in sorted({CONFIG.place(arm).folder for arm in STUDY.arms if reads_features(arm)}):

    rule:
        name:
            "cache_frozen_features"
            if len(PLACES) == 1
            else (f"cache_frozen_features_{Path(base_folder).name}")
        input:
            base=base_folder,
            images=IMAGES,
            train=SPLITS["train"],
        output:
            features=f"{RESULTS}/images/features/{Path(base_folder).name}.npy",
        log:
            f"{RESULTS}/logs/cache_frozen_features/{Path(base_folder).name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/cache_frozen_features/{Path(base_folder).name}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=16000,
            runtime=120,
        params:
            task=features_protocol(),
            train=settings(STUDY.train, "precision", "threads"),
        message:
            "Caching the output of the base's frozen part"
        script:
            "../scripts/cache_frozen_features.py"


for arm_name in TRAINED:

    rule:
        name:
            f"train_{arm_name}_chunk"
        input:
            unpack(assets(arm_name)),
            base=BASES[arm_name],
            train=SPLITS["train"],
            val=SPLITS["val"],
            init_from=start_of(arm_name),
            chosen=chosen_rate(arm_name),
            previous=previous_chunk(arm_name),
        output:
            chunk=temp(directory(f"{RESULTS}/runs/{arm_name}/seed-{{seed}}/chunk-{{chunk}}")),
        log:
            f"{RESULTS}/logs/train/{arm_name}.seed-{{seed}}.chunk-{{chunk}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/train/{arm_name}.seed-{{seed}}.chunk-{{chunk}}.tsv"
        # Who submitted a job tries again, with more memory; the Snakemake inside a job does not.
        # What a person must mend is not tried again: the script looks at `attempt`.
        retries: 0 if workflow.remote_exec else 3
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu=STUDY.train.num_processes, gpu_model="a100", mem_mb=32000, runtime=720),
            attempt=lambda wildcards, attempt: attempt,
        params:
            task=task_protocol(),
            arm_name=arm_name,
            arm=trained_protocol(arm_name),
            train=protocol(STUDY.train, arm_name),
            protocol=PROTOCOL_VERSION,
            # No rule declares this folder: Snakemake deletes the declared outputs of a failed job.
            checkpoints=placed(f"{RESULTS}/checkpoints/{arm_name}/seed-{{seed}}/chunk-{{chunk}}"),
            tensorboard=placed(f"{RESULTS}/tensorboard/{arm_name}/seed-{{seed}}"),
        message:
            f"Training {arm_name}, seed {{wildcards.seed}}, chunk {{wildcards.chunk}} of {LAST_CHUNK}"
        script:
            "../scripts/train.py"

    rule:
        name:
            f"train_{arm_name}"
        input:
            expand(f"{RESULTS}/runs/{arm_name}/seed-{{seed}}/model", seed=STUDY.train.seeds),


if TRAINED:

    rule select_checkpoint:
        input:
            chunk=f"{RUN}/chunk-{LAST_CHUNK}",
            base=base_of,
        output:
            model=directory(f"{RUN}/model"),
            history=f"{RUN}/history.csv",
            cost=f"{RUN}/cost.json",
        log:
            f"{RESULTS}/logs/select_checkpoint/{{arm}}.seed-{{seed}}.log",
        wildcard_constraints:
            arm="|".join(TRAINED),
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=8000,
            runtime=30,
        params:
            arm=lambda wildcards: arm_protocol(wildcards.arm),
            study=CONFIG.name,
        message:
            "Keeping the best epoch of {wildcards.arm}, seed {wildcards.seed}"
        script:
            "../scripts/select_checkpoint.py"


if UNTRAINED:

    rule keep_base:
        input:
            base=base_of,
            train=SPLITS["train"],
            elsewhere=lambda wildcards: METHODS[wildcards.arm].inputs,
        output:
            model=directory(f"{RUN}/model"),
            history=f"{RUN}/history.csv",
            cost=f"{RUN}/cost.json",
        log:
            f"{RESULTS}/logs/keep_base/{{arm}}.seed-{{seed}}.log",
        wildcard_constraints:
            arm="|".join(UNTRAINED),
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=16000,
            runtime=30,
        params:
            task=task_protocol(),
            arm=lambda wildcards: arm_protocol(wildcards.arm),
        message:
            "Taking the base as {wildcards.arm}, seed {wildcards.seed}"
        script:
            "../scripts/keep_base.py"


if COMPOSED:

    rule compose:
        input:
            base=base_of,
            train=SPLITS["train"],
            models=lambda wildcards: of_parts(wildcards, "model"),
            costs=lambda wildcards: of_parts(wildcards, "cost.json"),
        output:
            model=directory(f"{RUN}/model"),
            history=f"{RUN}/history.csv",
            cost=f"{RUN}/cost.json",
        log:
            f"{RESULTS}/logs/compose/{{arm}}.seed-{{seed}}.log",
        wildcard_constraints:
            arm="|".join(COMPOSED),
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=32000,
            runtime=30,
        params:
            task=task_protocol(),
            arm=lambda wildcards: arm_protocol(wildcards.arm),
            parts=lambda wildcards: {
                part: arm_protocol(part) for part in METHODS[wildcards.arm].parts
            },
        message:
            "Composing {wildcards.arm}, seed {wildcards.seed}, of finished runs"
        script:
            "../scripts/compose.py"
