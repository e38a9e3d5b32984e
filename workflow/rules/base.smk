# In: nothing, or a hub. Out: a model folder that from_pretrained loads, shared by studies.
from peft_ablation.bases.fetch import base_folder

BASE = base_folder(CONFIG.site.bases, settings(STUDY.base), STUDY.train.prompt)


if STUDY.base.id == "phantom":

    rule pretrain_phantom_base:
        output:
            model=directory(BASE),
        log:
            f"{RESULTS}/logs/pretrain_phantom_base.log",
        benchmark:
            f"{RESULTS}/benchmarks/pretrain_phantom_base.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=8000,
            runtime=60,
        params:
            pretraining=settings(STUDY.base.pretraining),
            prompt=STUDY.train.prompt,
            threads=STUDY.train.threads,
        message:
            "Pre-training a tiny GIT on clean schematic phantoms"
        script:
            "../scripts/pretrain_phantom_base.py"

else:

    rule fetch_base:
        output:
            model=directory(BASE),
        log:
            f"{RESULTS}/logs/fetch_base.log",
        # Runs where Snakemake was started: compute nodes often have no network.
        localrule: True
        conda:
            "../../envs/torch.yaml"
        params:
            id=STUDY.base.id,
            revision=STUDY.base.revision,
        message:
            "Fetching {params.id} at {params.revision}"
        script:
            "../scripts/fetch_base.py"
