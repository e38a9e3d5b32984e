# In: training and validation split, bases, nothing trained. Out: memory/{memory.csv,memory.md} and
# figures/memory.*. On demand alone: `snakemake memory_table`.
from peft_ablation.comparison.memory import read_published_memory

MEMORY_SEED = STUDY.train.seeds[0]

if TRAINED:

    # Asked for by few runs: what is read for it is read when it is planned, and not before.
    rule measure_memory:
        input:
            **({"images": IMAGES} if TASK.images else {}),
            train=SPLITS["train"],
            val=SPLITS["val"],
            bases=lambda wildcards: [
                BASES[arm].format(seed=MEMORY_SEED) for arm in CONFIG.memory["arms"]
            ],
            features=lambda wildcards: [
                features_of(arm) for arm in CONFIG.memory["arms"] if reads_features(arm)
            ],
        output:
            table=report(
                f"{RESULTS}/memory/memory.csv",
                caption="../report/memory_table.rst",
                category="2. Training",
                labels={"what": "Memory of a training step, as a table"},
            ),
        log:
            f"{RESULTS}/logs/measure_memory.log",
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=32000,
            runtime=240,
        params:
            task=task_protocol(),
            arms=lambda wildcards: {arm: arm_protocol(arm) for arm in CONFIG.memory["arms"]},
            train=lambda wildcards: {
                arm: protocol(STUDY.train, arm) for arm in CONFIG.memory["arms"]
            },
            seed=MEMORY_SEED,
            memory=lambda wildcards: CONFIG.memory,
            caching=lambda wildcards: [arm for arm in CONFIG.memory["arms"] if reads_features(arm)],
        message:
            "Measuring the memory of training steps"
        script:
            "../scripts/measure_memory.py"

    rule write_memory_page:
        input:
            table=rules.measure_memory.output.table,
        output:
            page=f"{RESULTS}/memory/memory.md",
        log:
            f"{RESULTS}/logs/write_memory_page.log",
        conda:
            "../../envs/tables.yaml"
        params:
            study=CONFIG.name,
            published=read_published_memory(CONFIG.name),
        message:
            "Setting measured, expected and published memory side by side"
        script:
            "../scripts/write_memory_page.py"

    rule plot_memory:
        input:
            table=rules.measure_memory.output.table,
        output:
            figure("memory", "2. Training", "Memory of a training step"),
        log:
            f"{RESULTS}/logs/plot_memory.log",
        conda:
            "../../envs/tables.yaml"
        message:
            "Drawing the memory of training steps"
        script:
            "../scripts/plot_memory.py"

    rule memory_table:
        input:
            rules.measure_memory.output,
            rules.write_memory_page.output,
            rules.plot_memory.output,
