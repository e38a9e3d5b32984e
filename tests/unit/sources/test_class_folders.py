"""Class folders as an examples table; every bad layout by its own line."""

import re
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.data.images import cache_shard
from peft_ablation.errors import InputError
from peft_ablation.sources import source_class
from peft_ablation.sources.class_folders import read_class_folders


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / path)
    return root


def refused(root: Path, **settings) -> str:
    with pytest.raises(InputError) as caught:
        read_class_folders(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_are_classes_and_no_split_is_given(tmp_path):
    root = lay_out(tmp_path, "bee/2.png", "bee/1.JPG", "ant/1.jpeg")
    table, account = read_class_folders(root)
    assert table.select("example_id", "group", "split", "image", "label").rows() == [
        ("ant/1", "ant/1", None, "ant/1.jpeg", "ant"),
        ("bee/1", "bee/1", None, "bee/1.JPG", "bee"),
        ("bee/2", "bee/2", None, "bee/2.png", "bee"),
    ]
    assert table["balance"].to_list() == [["ant"], ["bee"], ["bee"]]
    assert account["classes"] == {"ant": 1, "bee": 2}
    assert account["splits"] == {}


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_split_folders_give_the_splits(tmp_path, validation):
    names = {"train": "train", validation: "val", "test": "test"}
    root = lay_out(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in "ab"))
    table, account = read_class_folders(root)
    for folder, split in names.items():
        assert table.filter(pl.col("split") == split)["image"].to_list() == [
            f"{folder}/a/1.png",
            f"{folder}/b/1.png",
        ]
    assert account["splits"] == {"train": 2, "val": 2, "test": 2}
    assert set(table["label"]) == {"a", "b"}


def test_a_folder_may_be_another_split_than_its_name_says(tmp_path):
    root = lay_out(
        tmp_path, *(f"{part}/{label}/1.png" for part in ("train", "val") for label in "ab")
    )
    table, account = read_class_folders(root, split_names={"val": "test"})
    assert account["splits"] == {"train": 2, "test": 2}
    assert table.filter(pl.col("split") == "test")["image"].to_list() == [
        "val/a/1.png",
        "val/b/1.png",
    ]


def test_a_class_may_be_called_train(tmp_path):
    root = lay_out(tmp_path, "train/1.png", "car/1.png")
    table, _ = read_class_folders(root)
    assert table["label"].to_list() == ["car", "train"]
    assert table["split"].null_count() == 2


def test_what_is_no_image_of_a_class_is_counted_by_reason(tmp_path):
    root = lay_out(tmp_path, "a/1.png", "a/.hidden.png", "b/1.png", "c/1.png", "c/2.png")
    (root / "a" / "notes.txt").write_text("x")
    (root / "b" / "more").mkdir()
    (root / "README.md").write_text("x")
    table, account = read_class_folders(root, classes=["a", "b"])
    assert table["example_id"].to_list() == ["a/1", "b/1"]
    assert account["dropped"] == {"folder_in_class": 1, "no_image_file": 2, "other_class": 2}
    assert (account["rows_in"], account["rows_out"]) == (7, 2)


def test_names_replace_folders_and_folders_of_one_name_are_one_class(tmp_path):
    root = lay_out(tmp_path, "n1/1.png", "n2/1.png", "n3/1.png")
    table, _ = read_class_folders(root, class_names={"n1": "dog", "n2": "dog"})
    assert table["label"].to_list() == ["dog", "dog", "n3"]
    assert table.schema["balance"] == pl.List(pl.Enum(["dog", "n3"]))


def test_files_that_differ_in_their_ending_alone_have_ids_of_their_own(tmp_path):
    root = lay_out(tmp_path, "a/1.png", "a/1.jpg", "a/2.png", "b/1.png")
    table, _ = read_class_folders(root)
    assert table["example_id"].to_list() == ["a/1.jpg", "a/1.png", "a/2", "b/1"]


def test_a_class_folder_without_images_is_refused_unless_it_is_left_out(tmp_path):
    root = lay_out(tmp_path, "a/1.png", "b/1.png")
    (root / "c").mkdir()
    (root / "c" / "readme.txt").write_text("x")
    assert re.search(r"class folder \S+/c holds no image .*data\.classes", refused(root))
    assert read_class_folders(root, classes=["a", "b"])[0].height == 2


def test_a_root_without_class_folders_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    assert "has no class folders; expected <class>/*.jpg" in refused(tmp_path)
    assert "no folder" in refused(tmp_path / "none")


def test_one_class_is_refused(tmp_path):
    root = lay_out(tmp_path, "a/1.png", "a/2.png")
    assert "one class only, 'a', expected two or more" in refused(root)
    lay_out(root, "b/1.png")
    assert "one class only, 'x'" in refused(root, class_names={"a": "x", "b": "x"})


def test_a_class_missing_from_a_split_is_refused(tmp_path):
    root = lay_out(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    told = refused(root)
    assert "class 'b' is missing from split test (1 of 2 classes are)" in told


def test_wanted_folders_that_are_absent_are_refused_with_the_nearest(tmp_path):
    root = lay_out(tmp_path, "beagle/1.png", "dingo/1.png")
    assert "did you mean 'beagle'?" in refused(root, classes=["beagel", "dingo"])
    assert "data.class_names" in refused(root, class_names={"begle": "Beagle"})


def test_a_folder_beside_the_splits_is_refused(tmp_path):
    root = lay_out(tmp_path, "train/a/1.png", "train/b/1.png", "noisy/a/1.png")
    assert "folder 'noisy' beside its splits" in refused(root)
    (root / "noisy").rename(root / "val")
    (root / "valid").mkdir()
    assert "folder 'valid' beside its splits" in refused(root)


def test_a_file_that_is_no_picture_is_found_by_the_image_cache(tmp_path):
    root = lay_out(tmp_path, "a/1.png", "b/1.png")
    (root / "b" / "2.png").write_text("no picture")
    table, _ = read_class_folders(root)
    checked_examples(table, "class_folders").write_parquet(root / "examples.parquet")
    cache_shard(
        root / "examples.parquet", shard=0, shards=1, size=8, colour=True, verify=True, root=root,
        cloud=None, pixels=root / "shard-0.npy", index=root / "shard-0.parquet",
    )  # fmt: skip
    status = dict(pl.read_parquet(root / "shard-0.parquet").select("example_id", "status").rows())
    assert status == {"a/1": "ok", "b/1": "ok", "b/2": "undecodable"}


def test_imagewoof_is_read_whole(shared_data):
    names = {"n02086240": "Shih-Tzu", "n02115641": "Dingo"}
    table, account = read_class_folders(shared_data / "imagewoof-160", class_names=names)
    assert account == {
        "rows_in": 550,
        "rows_out": 550,
        "dropped": {},
        "classes": dict.fromkeys(sorted(set(table["label"])), 55),
        "splits": {"train": 400, "val": 150},
    }
    assert table["label"].n_unique() == 10
    assert {"Shih-Tzu", "Dingo", "n02088364"} < set(table["label"])
    shih_tzus = table.filter(pl.col("label") == "Shih-Tzu")["image"]
    assert shih_tzus.str.contains("/n02086240/").all()
    assert all((shared_data / "imagewoof-160" / path).is_file() for path in table["image"])


def test_cifar_10_is_read_whole(shared_data):
    table, account = read_class_folders(shared_data / "cifar10-images")
    assert account["splits"] == {"train": 1500, "test": 500}
    assert checked_examples(table, "class_folders").height == 2000


def test_the_source_reads_the_folder_of_the_site(tmp_path):
    lay_out(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    kind = source_class("class_folders")
    settings = kind.Settings(source="class_folders", classes=("a", "c"))
    source = kind(settings, Site(data_root=str(tmp_path)), "results")
    source.check()
    assert source.read()[0]["label"].to_list() == ["a", "c"]
    with pytest.raises(InputError, match="data_root: not set"):
        kind(settings, Site(), "results").check()


def test_reading_the_settings_needs_no_polars():
    import subprocess

    line = "import sys, peft_ablation.sources.class_folders; print('polars' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
