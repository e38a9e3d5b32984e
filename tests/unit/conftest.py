"""A small study made once a session, through the functions that the workflow calls."""

from pathlib import Path

import pytest
from tiny_study import SIZE, UNITS, TinyStudy, task_of


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    from peft_ablation.bases.phantom import pretrain_phantom_base
    from peft_ablation.data.images import cache_shard, index_shards
    from peft_ablation.data.splits import split_table
    from peft_ablation.sources.mimic.cohort import query_metadata
    from peft_ablation.sources.mimic.reports import write_reports
    from peft_ablation.sources.mimic.sampling import sample_table
    from peft_ablation.sources.phantom.tree import render_tree

    root = tmp_path_factory.mktemp("tiny")
    tree, cohort, splits, images = (root / name for name in ("tree", "cohort", "splits", "images"))
    render_tree(tree, subjects=60, size=48, seed=1)
    query_metadata(
        sql=Path(__file__).parents[2] / "resources" / "query_metadata.sql",
        metadata=tree / "mimic-cxr-2.0.0-metadata.csv.gz",
        chexpert=tree / "mimic-cxr-2.0.0-chexpert.csv.gz",
        views=["AP", "PA"], limit=None, cloud=None,
        output=cohort / "metadata.parquet", account=cohort / "metadata.json",
    )  # fmt: skip
    sample_table(
        cohort / "metadata.parquet", strategy="rarest_first", quota=40, count_values=[1], seed=1,
        absent_labels="skip", output=cohort / "sampled.parquet", csv=cohort / "sampled.csv",
        account=cohort / "account.csv",
    )  # fmt: skip
    write_reports(
        cohort / "sampled.parquet", template="corrected", unmentioned="drop",
        output=cohort / "examples.parquet", account=cohort / "examples.json",
    )  # fmt: skip
    split_table(
        cohort / "examples.parquet", unit="subject", units=UNITS, given="keep",
        shares={"train": 0.6, "val": 0.2, "test": 0.2}, seed=1,
        outputs={n: splits / f"{n}.parquet" for n in ("train", "val", "test")},
        csv={n: splits / f"{n}.csv" for n in ("train", "val", "test")},
        balance=splits / "balance.csv", account=splits / "account.json",
    )  # fmt: skip
    cache_shard(
        cohort / "examples.parquet", shard=0, shards=1, size=SIZE, colour=False, verify=True,
        root=str(tree), cloud=None, pixels=images / "shard-0.npy",
        index=images / "shard-0.parquet",
    )  # fmt: skip
    index_shards(
        cohort / "examples.parquet", [images / "shard-0.parquet"], on_bad_image="fail",
        max_dropped_share=0.01, output=images / "index.parquet", account=images / "account.json",
    )  # fmt: skip
    pretrain_phantom_base(
        root / "base", prompt=task_of()["prompt"], threads=1, images=64, epochs=1, batch_size=32,
        learning_rate=1e-3, image_size=SIZE, patch_size=8, hidden_size=32, vision_layers=2,
        text_layers=2, attention_heads=2, seed=1,
    )  # fmt: skip
    return TinyStudy(root)


@pytest.fixture(scope="session")
def features(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cached output of the tiny study's vision tower."""
    from peft_ablation.training.features import cache_frozen_features

    path = tmp_path_factory.mktemp("features") / "features.npy"
    cache_frozen_features(
        task=task_of(), base=tiny_study.base, train=tiny_study.split("train"),
        images=tiny_study.index, batch_size=16, precision="fp32", threads=1, output=path,
    )  # fmt: skip
    return path
