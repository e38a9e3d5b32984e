# Functions and constants that every rule file reads; no rules.
import sys
from pathlib import Path

from peft_ablation.training.checkpoint import NOT_PROTOCOL
from peft_ablation.config.loading import load_config, tree_csv
from peft_ablation.errors import InputError
from peft_ablation.stale_locks import hold
from peft_ablation.methods.targets import adapts_vision
from snakemake.resources import Resources


def validated(site, studies):
    """Return the validated config, or end with its one line."""
    try:
        return load_config(site, studies)
    except InputError as error:
        sys.exit(f"peft-ablation: {error}")


CONFIG = validated(config, Path(workflow.basedir, "config", "studies"))
STUDY = CONFIG.study
RESULTS = CONFIG.results
RUN = f"{RESULTS}/runs/{{arm}}/seed-{{seed}}"
LAST_CHUNK = STUDY.train.chunks - 1

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


def gpu_job(**resources):
    """Return a GPU rule's resources, less those that a profile's default-resources speak of.

    Elsewhere a rule's own word wins over that default. Training rules are named after the arms of
    the study, which no profile can know, so here the profile wins.
    """
    defaults = workflow.resource_settings.default_resources
    said = set(getattr(defaults, "args", None) or ()) - set(Resources.default().args)
    said = {text.split("=")[0] for text in said}
    return {name: value for name, value in resources.items() if name not in said}


def tree_root():
    """Return the root of the MIMIC-CXR-JPG tree that the study reads, or None in the cloud."""
    return {
        "phantom": f"{RESULTS}/phantom",
        "tree": CONFIG.site.data_root,
        "bigquery": None,
    }[CONFIG.source]


def tree_tables(wildcards):
    """Return the tree's CSVs by name; none where BigQuery answers."""
    if CONFIG.source == "phantom":
        return dict(rules.render_phantom.output.items())
    if CONFIG.source == "tree":
        return {table: str(tree_csv(tree_root(), table)) for table in ("metadata", "chexpert")}
    return {}


def runs(pattern):
    """Return `pattern` for every arm and seed of the study."""
    return expand(pattern, arm=list(STUDY.arms), seed=STUDY.train.seeds)


def protocol(train):
    """Return the settings that decide what training computes; a change of them trains again."""
    return {key: value for key, value in settings(train).items() if key not in NOT_PROTOCOL}


def cached_features(arm):
    """Return the cached output of the vision tower, or nothing where the arm changes the tower."""
    train = STUDY.train
    reads = (
        train.cache_vision_features
        and train.shift_augmentation == 0
        and not adapts_vision(arm.method, arm.targets)
    )
    return rules.cache_vision_features.output.features if reads else []


def previous_chunk(arm):
    """Return the input function for the chunk before this one; none for the first."""

    def chunk_before(wildcards):
        chunk = int(wildcards.chunk)
        before = f"{RESULTS}/runs/{arm}/seed-{wildcards.seed}/chunk-{chunk - 1}"
        return before if chunk else []

    return chunk_before


def figure(name, category, title):
    """Return the outputs of one figure: vector (in the report page), bitmap, the table behind it."""
    vector = report(
        f"{RESULTS}/figures/{name}.svg",
        caption=f"../report/{name}.rst",
        category=category,
        labels={"what": title},
    )
    return [vector, *multiext(f"{RESULTS}/figures/{name}", ".png", ".csv")]


# How runs are carried out, but not what they compute. Scripts read it from `config`: in `params`
# a change would train finished arms again.
config["conduct"] = {
    "train": settings(STUDY.train, *NOT_PROTOCOL),
    "eval_batch_size": STUDY.train.eval_batch_size or STUDY.train.batch_size,
    "tensorboard": CONFIG.site.tensorboard,
}
SPLITS = expand(f"{RESULTS}/splits/{{split}}.parquet", split=["train", "val", "test"])
SHARDS = range(STUDY.images.shards)
