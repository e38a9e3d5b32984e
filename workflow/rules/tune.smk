# In: what training reads. Out: tuning/<arm>/{chosen.json,trials.csv}, an input of the arm's training.
# Only for studies with `tune`. A trial is a run of the training's own jobs with one of the arm's rates:
# `tune_<arm>_chunk` is one chunk of one trial, `tune_<arm>` asks for all trials of the arm.
import re

from peft_ablation.training.checkpoint import MAY_DIVERGE, PROTOCOL_VERSION

TUNING_FIGURES = []

if GRIDS:
    TRIAL_TRAIN = STUDY.train.model_copy(update={"epochs": STUDY.tune.epochs or STUDY.train.epochs})

for arm_name, rates in GRIDS.items():

    rule:
        name:
            f"tune_{arm_name}_chunk"
        input:
            unpack(assets(arm_name)),
            base=BASES[arm_name],
            train=SPLITS["train"],
            val=SPLITS["val"],
            init_from=start_of(arm_name),
            previous=previous_trial_chunk(arm_name),
        output:
            chunk=temp(
                directory(f"{RESULTS}/tuning/{arm_name}/{{rate}}/seed-{{seed}}/chunk-{{chunk}}")
            ),
        log:
            f"{RESULTS}/logs/tune/{arm_name}.rate-{{rate}}.seed-{{seed}}.chunk-{{chunk}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/tune/{arm_name}.rate-{{rate}}.seed-{{seed}}.chunk-{{chunk}}.tsv"
        wildcard_constraints:
            rate="|".join(map(re.escape, rates)),
        retries: 0 if workflow.remote_exec else 3
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu=STUDY.train.num_processes, gpu_model="a100", mem_mb=32000, runtime=720),
            attempt=lambda wildcards, attempt: attempt,
        params:
            task=task_protocol(),
            arm_name=lambda wildcards, arm=arm_name: f"{arm} at {wildcards.rate},",
            arm=trial_protocol(arm_name),
            train={**protocol(TRIAL_TRAIN, arm_name), MAY_DIVERGE: True},
            protocol=PROTOCOL_VERSION,
            checkpoints=placed(
                f"{RESULTS}/checkpoints/tuning/{arm_name}/{{rate}}/seed-{{seed}}/chunk-{{chunk}}"
            ),
            tensorboard=placed(f"{RESULTS}/tensorboard/tuning/{arm_name}/{{rate}}/seed-{{seed}}"),
        message:
            f"Trying {arm_name} at learning rate {{wildcards.rate}}, chunk {{wildcards.chunk}} of "
            f"{TRIAL_TRAIN.chunks - 1}"
        script:
            "../scripts/train.py"

    rule:
        name:
            f"tune_{arm_name}"
        input:
            chosen_rate(arm_name),


if GRIDS:

    # Without the trial's model: of all that a trial leaves, only its losses are read.
    rule record_trial:
        input:
            chunk=f"{TRIAL}/chunk-{TRIAL_TRAIN.chunks - 1}",
        output:
            history=f"{TRIAL}/history.csv",
            trial=f"{TRIAL}/trial.json",
        log:
            f"{RESULTS}/logs/record_trial/{{arm}}.rate-{{rate}}.seed-{{seed}}.log",
        wildcard_constraints:
            rate=r"[^/]+",
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=2000,
            runtime=30,
        message:
            "Recording {wildcards.arm} at learning rate {wildcards.rate}"
        script:
            "../scripts/record_trial.py"

    rule choose_learning_rate:
        input:
            trials=lambda wildcards: [
                f"{TRIAL.format(arm=wildcards.arm, rate=rate, seed=STUDY.tune.seed)}/trial.json"
                for rate in GRIDS[wildcards.arm]
            ],
        output:
            chosen=CHOSEN,
            table=TRIALS,
        log:
            f"{RESULTS}/logs/choose_learning_rate/{{arm}}.log",
        conda:
            "../../envs/torch.yaml"
        resources:
            mem_mb=2000,
            runtime=30,
        message:
            "Choosing the learning rate of {wildcards.arm}"
        script:
            "../scripts/choose_learning_rate.py"

    rule plot_tuning:
        input:
            tables=expand(TRIALS, arm=GRIDS),
        output:
            figure("tuning", "2. Training", "Validation loss over learning rate"),
        log:
            f"{RESULTS}/logs/plot_tuning.log",
        conda:
            "../../envs/tables.yaml"
        params:
            arms=list(GRIDS),
        message:
            "Drawing validation loss over learning rate"
        script:
            "../scripts/plot_tuning.py"

    TUNING_FIGURES = rules.plot_tuning.output
