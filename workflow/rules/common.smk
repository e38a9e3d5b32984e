# Functions and constants that every rule file reads; no rules.
import sys

from peft_ablation.as_published import of_training
from peft_ablation.comparison.captions import caption
from peft_ablation.comparison.published import read_published
from peft_ablation.config.loading import load_config
from peft_ablation.config.questions import INSTRUCT, untouched
from peft_ablation.config.runs import data_terms, runs_needed
from peft_ablation.config.swept import SWEPT
from peft_ablation.errors import InputError
from peft_ablation.stale_locks import hold
from peft_ablation.termination import handle_apart
from peft_ablation.training.checkpoint import LATER, NOT_PROTOCOL, protocol_of
from peft_ablation.training.tuning import with_chosen_rate
from snakemake.resources import Resources

SITE = {key: value for key, value in config.items() if key != "conduct"}


def validated(site):
    """Return the config, the runs it starts from, published numbers; or end with one line."""
    try:
        found = load_config(site)
        return found, runs_needed(found), read_published(found.name)
    except InputError as error:
        sys.exit(f"peft-ablation: {error}")


CONFIG, STARTS, PUBLISHED = validated(SITE)
STUDY = CONFIG.study
SOURCE = CONFIG.source
TASK = CONFIG.task
RESULTS = CONFIG.results
RUN = f"{RESULTS}/runs/{{arm}}/seed-{{seed}}"
LAST_CHUNK = STUDY.train.chunks - 1
METHODS = {name: CONFIG.method(name) for name in STUDY.arms}
EXAMPLES = f"{RESULTS}/cohort/examples.parquet"
SPLITS = {split: f"{RESULTS}/splits/{split}.parquet" for split in ("train", "val", "test")}
SHARDS = range(STUDY.images.shards)
IMAGES = f"{RESULTS}/images/index.parquet"

# A killed run leaves Snakemake's locks behind; they are removed here, those of a living run stay.
# Jobs parse this file too and leave the lock to the run that started them.
RUN_LOCK = hold() if workflow.is_main_process else None


wildcard_constraints:
    arm="|".join(STUDY.arms),
    seed=r"\d+",
    chunk=r"\d+",
    shard=r"\d+",
    split="train|val|test",


def settings(model, *keys):
    """Return a config section, or the named keys of it, as plain values for `params`."""
    values = model.model_dump(mode="json")
    return {key: values[key] for key in keys} if keys else values


def placed(path):
    """Return a path in the folder that a module's `prefix` names, which `params` do not follow."""
    return str(workflow.modifier.modify_path(path))


def made_by_another_study(path):
    """Tell whether a study that was read before this one, in the same DAG, has a rule for `path`."""
    return any(placed(path) in rule.output for rule in workflow.rules)


def of_source(path):
    """Return a path of the source: what rules make follows a module's `prefix`."""
    made = path.startswith(f"{RESULTS}/") or path in SOURCE.fetched
    return path if made else local(path)


SOURCE_INPUTS = {name: of_source(path) for name, path in SOURCE.inputs().items()}
OWN_ROOT = SOURCE.root is not None and SOURCE.root.startswith(f"{RESULTS}/")
SOURCE_ROOT = placed(SOURCE.root) if OWN_ROOT else SOURCE.root


def source_site():
    """Return the keys of the site that the source reads, folders of fetched files as they are."""
    read = settings(CONFIG.site, *SOURCE.site_keys)
    return {key: placed(value) if key == "datasets" else value for key, value in read.items()}


def gpu_job(**resources):
    """Return a GPU rule's resources, less those that a profile's default-resources speak of.

    Elsewhere a rule's own word wins over that default. Training rules are named after the arms of
    the study, which no profile can know, so here the profile wins.
    """
    defaults = workflow.resource_settings.default_resources
    said = set(getattr(defaults, "args", None) or ()) - set(Resources.default().args)
    said = {text.split("=")[0] for text in said}
    return {name: value for name, value in resources.items() if name not in said}


def runs(pattern):
    """Return `pattern` for every arm and seed of the study."""
    return expand(pattern, arm=list(STUDY.arms), seed=STUDY.train.seeds)


def first_runs(pattern):
    """Return `pattern` for every arm and the first seed."""
    return expand(pattern, arm=list(STUDY.arms), seed=STUDY.train.seeds[0])


def arm_protocol(arm):
    """Return the settings of an arm that its method reads; the base is an input of the job."""
    values = settings(STUDY.arms[arm])
    apart = ("base", "init_from", *LATER)
    kept = {key: value for key, value in values.items() if key not in apart}
    return of_training(kept)


def task_protocol():
    """Return the settings of the task that training reads; a change of them trains again."""
    return {k: v for k, v in settings(STUDY.task).items() if k not in TASK.not_training}


def features_protocol():
    """Return the settings of the task that the frozen part reads."""
    return {k: v for k, v in task_protocol().items() if k not in TASK.beside_features}


def protocol(train, arm):
    """Return the settings that decide what training an arm computes; a change of them trains again."""
    own = {k: v for k, v in settings(STUDY.arms[arm], *LATER).items() if v is not None}
    return protocol_of({**settings(train), **own})


BASES = {arm: CONFIG.start(arm) for arm in STUDY.arms}


def base_of(wildcards):
    """Return the base folder of a run."""
    return BASES[wildcards.arm].format(seed=getattr(wildcards, "seed", STUDY.train.seeds[0]))


def reads_features(arm):
    """Tell whether an arm reads the output of its base's frozen part from a cache."""
    architecture = CONFIG.architecture(arm, fetched=False)
    return (
        STUDY.train.cache_frozen_features
        and bool(TASK.frozen_part)
        and "{seed}" not in BASES[arm]
        and not TASK.changes_inputs(settings(STUDY.task))
        and METHODS[arm].leaves_alone(architecture, TASK.frozen_part, TASK.heads)
    )


def features_of(arm):
    """Return the cached features of an arm's base."""
    return f"{RESULTS}/images/features/{Path(CONFIG.place(arm).folder).name}.npy"


def assets(arm, predicting=False):
    """Return the input function for what the task reads besides the splits, by name."""

    def of(wildcards):
        name = arm or wildcards.arm
        found = {"images": IMAGES} if TASK.images else {}
        readable = not predicting or TASK.reads_features(settings(STUDY.task))
        if readable and reads_features(name):
            found["features"] = features_of(name)
        return found

    return of


def start_of(arm):
    """Return the model folder whose trained weights an arm starts from, or nothing."""
    start = STUDY.arms[arm].init_from
    return [] if start is None else STARTS[start].model


def of_parts(wildcards, name):
    """Return a file of each run that a composed one is made of, those of the same seed."""
    parts = METHODS[wildcards.arm].parts
    return [f"{RESULTS}/runs/{part}/seed-{wildcards.seed}/{name}" for part in parts]


# Learning rates that each arm tries, by their names in paths; nothing of a study without `tune`.
GRIDS = {arm: {repr(rate): rate for rate in rates} for arm, rates in CONFIG.grids.items()}
TRIAL = f"{RESULTS}/tuning/{{arm}}/{{rate}}/seed-{{seed}}"
CHOSEN = f"{RESULTS}/tuning/{{arm}}/chosen.json"
TRIALS = f"{RESULTS}/tuning/{{arm}}/trials.csv"


def chosen_rate(arm):
    """Return the file with an arm's chosen learning rate, or nothing where it is not tuned."""
    return CHOSEN.format(arm=arm) if arm in GRIDS else []


def trained_protocol(arm):
    """Return the settings of an arm that its training reads, with the chosen rate, if it is tuned."""
    if arm not in GRIDS:
        return arm_protocol(arm)
    return lambda wildcards, input: with_chosen_rate(arm_protocol(arm), input.chosen)


def trial_protocol(arm):
    """Return the function for the settings of an arm in a trial."""
    return lambda wildcards: {**arm_protocol(arm), "learning_rate": GRIDS[arm][wildcards.rate]}


def previous_trial_chunk(arm):
    """Return the input function for the chunk of a trial before this one; none for the first."""

    def chunk_before(wildcards):
        chunk = int(wildcards.chunk)
        trial = TRIAL.format(arm=arm, rate=wildcards.rate, seed=wildcards.seed)
        return f"{trial}/chunk-{chunk - 1}" if chunk else []

    return chunk_before


def previous_chunk(arm):
    """Return the input function for the chunk before this one; none for the first."""

    def chunk_before(wildcards):
        chunk = int(wildcards.chunk)
        before = f"{RESULTS}/runs/{arm}/seed-{wildcards.seed}/chunk-{chunk - 1}"
        return before if chunk else []

    return chunk_before


def figure(name, category, title, caption=None):
    """Return the outputs of one figure: vector (in the report page), bitmap, the table behind it."""
    vector = report(
        f"{RESULTS}/figures/{name}.svg",
        caption=caption or f"../report/{name}.rst",
        category=category,
        labels={"what": title},
    )
    return [vector, *multiext(f"{RESULTS}/figures/{name}", ".png", ".csv")]


# How runs are carried out, but not what they compute. Scripts read it from `config`: in `params`
# a change would train finished arms again.
config = {
    **config,
    "conduct": {
        "train": settings(STUDY.train, *NOT_PROTOCOL),
        "task": {key: settings(STUDY.task)[key] for key in TASK.not_training},
        "eval_batch_size": STUDY.train.eval_batch_size or STUDY.train.batch_size,
        "tensorboard": CONFIG.site.tensorboard,
        "caption": caption(CONFIG.name, settings(STUDY), CONFIG.reference),
    },
}
# Figures that the source's rules add to the comparison.
SOURCE_FIGURES = []

# Arms with defects of a published protocol: what they claim is set beside what is true.
AUDITED = any(arm.as_published is not None and arm.as_published.told for arm in STUDY.arms.values())
CLAIM_FIGURES = multiext(f"{RESULTS}/figures/claims", ".svg", ".png", ".csv") if AUDITED else []
