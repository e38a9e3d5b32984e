# In: nothing, a hub, a folder, or another run. Out: a model folder that from_pretrained loads.
# Each distinct base of the study has a rule of its own, named after its kind; a second one of a
# kind has a number. `prepare_base` makes of a base what all arms and seeds of the study start from,
# where the task says so (a head of texts).
PLACES = [*map(CONFIG.place, STUDY.arms), *([CONFIG.instruct] if CONFIG.instruct else [])]
PLACES = list({place.folder: place for place in PLACES}.values())


def base_rule(kind, place):
    """Return a rule's name: the kind, and a number after the first of that kind."""
    alike = [other for other in PLACES if other.base.kind == place.base.kind]
    number = alike.index(place)
    return kind + (f"_{number + 1}" if number else "")


def trains_tokenizer(place):
    """Tell whether a random base comes with a tokenizer trained on the study's texts."""
    return isinstance(settings(place.base.random)["tokenizer"], dict)


for place in PLACES:
    if made_by_another_study(place.folder):
        continue
    if place.base.kind == "phantom":

        rule:
            name:
                base_rule("pretrain_phantom_base", place)
            output:
                model=directory(place.folder),
            log:
                f"{RESULTS}/logs/{base_rule('pretrain_phantom_base', place)}.log",
            benchmark:
                f"{RESULTS}/benchmarks/{base_rule('pretrain_phantom_base', place)}.tsv"
            conda:
                "../../envs/torch.yaml"
            threads: place.base.pretraining.threads
            resources:
                **gpu_job(gpu_model="a100"),
                gpu=1,
                mem_mb=8000,
                runtime=60,
            params:
                pretraining=settings(place.base.pretraining),
                prompt=STUDY.task.prompt,
            message:
                "Pre-training a tiny GIT on clean schematic phantoms"
            script:
                "../scripts/pretrain_phantom_base.py"

    elif place.base.kind == "random":

        rule:
            name:
                base_rule("make_random_base", place)
            input:
                **({"texts": SPLITS["train"]} if trains_tokenizer(place) else {}),
            output:
                model=directory(place.folder),
            log:
                f"{RESULTS}/logs/{base_rule('make_random_base', place)}.log",
            conda:
                "../../envs/torch.yaml"
            resources:
                mem_mb=8000,
                runtime=30,
            params:
                random=settings(place.base.random),
            message:
                "Making a base of random weights"
            script:
                "../scripts/make_random_base.py"

    elif place.base.kind == "fetched":

        rule:
            name:
                base_rule("fetch_base", place)
            output:
                model=directory(place.folder),
            log:
                f"{RESULTS}/logs/{base_rule('fetch_base', place)}.log",
            # Runs where Snakemake was started: compute nodes often have no network.
            localrule: True
            conda:
                "../../envs/torch.yaml"
            params:
                id=place.base.id,
                revision=place.base.revision,
                model_types=sorted(TASK.architectures),
                tokenizer=TASK.tokenizer,
            message:
                "Fetching {params.id} at {params.revision}"
            script:
                "../scripts/fetch_base.py"

    else:

        rule:
            name:
                base_rule("adopt_run", place)
            input:
                model=STARTS[place.base.run].model,
                base=STARTS[place.base.run].base,
                train=STARTS[place.base.run].train,
            output:
                model=directory(place.folder),
            log:
                f"{RESULTS}/logs/{base_rule('adopt_run', place)}/{Path(place.folder).name}.log",
            conda:
                "../../envs/torch.yaml"
            resources:
                mem_mb=16000,
                runtime=30,
            params:
                task=STARTS[place.base.run].task,
                arm=STARTS[place.base.run].arm,
            message:
                f"Taking run {Path(place.folder).name} as a base".replace(
                    "{seed}", "{wildcards.seed}"
                )
            script:
                "../scripts/adopt_run.py"


PREPARED = list(dict.fromkeys(filter(None, map(CONFIG.prepared, STUDY.arms))))

for number, prepared in enumerate(PREPARED):

    rule:
        name:
            "prepare_base" + (f"_{number + 1}" if number else "")
        input:
            base=next(CONFIG.place(arm).folder for arm in STUDY.arms if BASES[arm] == prepared),
            train=SPLITS["train"],
        output:
            model=directory(prepared),
        log:
            f"{RESULTS}/logs/prepare_base/{Path(prepared).name}.log",
        conda:
            "../../envs/torch.yaml"
        threads: STUDY.train.threads
        resources:
            **gpu_job(gpu_model="a100"),
            gpu=1,
            mem_mb=16000,
            runtime=60,
        params:
            task=task_protocol(),
            threads=STUDY.train.threads,
        message:
            f"Making of {Path(prepared).name} what arms start from"
        script:
            "../scripts/prepare_base.py"
