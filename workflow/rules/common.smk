# Functions and constants that every rule file reads; no rules.
import sys
from pathlib import Path

from peft_ablation.config import load_config, tree_csv
from peft_ablation.errors import InputError


def validated(site, studies):
    """Return the validated config, or end with its one line."""
    try:
        return load_config(site, studies)
    except InputError as error:
        sys.exit(f"peft-ablation: {error}")


CONFIG = validated(config, Path(workflow.basedir, "config", "studies"))
STUDY = CONFIG.study
RESULTS = CONFIG.results
LAST_CHUNK = STUDY.train.chunks - 1


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


SPLITS = expand(f"{RESULTS}/splits/{{split}}.parquet", split=["train", "val", "test"])
SHARDS = range(STUDY.images.shards)
