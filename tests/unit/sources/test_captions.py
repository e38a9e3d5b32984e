"""Captions files of three layouts as one examples table; everything bad by its own line."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from pydantic import ValidationError

from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.errors import InputError
from peft_ablation.sources import read_examples, source_class
from peft_ablation.sources.captions import CaptionsData

CAPTIONS = {
    "1.jpg": ["A dog, brown.", "It runs."],
    "2.jpg": ["Two cats."],
    "b/3.png": ["A  bird\non a tree.", "A bird.", "A blue bird."],
}
TOLD = [
    ("pictures/1", "pictures/1", "pictures/1.jpg", ["A dog, brown.", "It runs."]),
    ("pictures/2", "pictures/2", "pictures/2.jpg", ["Two cats."]),
    (
        "pictures/b/3",
        "pictures/b/3",
        "pictures/b/3.png",
        ["A bird on a tree.", "A bird.", "A blue bird."],
    ),
]


def coco(captions=CAPTIONS):
    images = [{"id": 10 + n, "file_name": name} for n, name in enumerate(captions)]
    rows = [
        {"id": 0, "image_id": 10 + n, "caption": text}
        for n, texts in enumerate(captions.values())
        for text in texts
    ]
    return {"info": {}, "images": images, "annotations": rows}


def karpathy(captions=CAPTIONS, splits=("train", "restval", "test")):
    return {
        "dataset": "made up",
        "images": [
            {
                "filename": name.split("/")[-1], "split": split, "sentids": [],
                **({"filepath": "b"} if "/" in name else {}),
                "sentences": [{"raw": text, "tokens": []} for text in texts],
            }
            for (name, texts), split in zip(captions.items(), splits, strict=True)
        ],
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures and their captions in each layout."""
    for name in CAPTIONS:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "coco.json").write_text(json.dumps(coco()))
    (tmp_path / "karpathy.json").write_text(json.dumps(karpathy()))
    with (tmp_path / "captions.txt").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("image", "caption"))
        lines.writerows((name, text) for name, texts in CAPTIONS.items() for text in texts)
    return tmp_path


def read(root, **data):
    settings = CaptionsData(source="captions", images="pictures", **data)
    source = source_class("captions")(settings, Site(data_root=str(root)), "results/mine")
    source.check()
    table, account = source.read()
    return checked_examples(table, "captions"), account


def refused(root, **data):
    with pytest.raises(InputError) as error:
        read(root, **data)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("file", ["coco.json", "karpathy.json", "captions.txt"])
def test_three_layouts_give_one_table(root, file):
    table, account = read(root, files=file)
    assert table.select("example_id", "group", "image", "report").rows() == TOLD
    assert account["rows_in"] == account["rows_out"] == 3
    assert account["dropped"] == {}
    assert account["images_by_captions"] == {"1": 1, "2": 1, "3": 1}
    (told,) = account["files"]
    assert (told["images"], told["captions"]) == (3, 6)


def test_captions_are_gathered_wherever_they_stand_in_the_file(root):
    told = coco()
    told["annotations"] = [told["annotations"][place] for place in (5, 0, 2, 3, 1, 4)]
    (root / "coco.json").write_text(json.dumps(told))
    table, _ = read(root, files="coco.json")
    assert [sorted(texts) for texts in table["report"].to_list()] == [
        sorted(texts) for *_, texts in TOLD
    ]
    assert table["report"].to_list()[2][0] == "A blue bird."


def test_splits_are_those_of_the_file_or_of_its_name(root):
    assert read(root, files="karpathy.json")[0]["split"].to_list() == ["train", "train", "test"]
    assert read(root, files="coco.json")[0]["split"].to_list() == [None] * 3
    one, two = dict(list(CAPTIONS.items())[:1]), dict(list(CAPTIONS.items())[1:])
    (root / "one.json").write_text(json.dumps(coco(one)))
    (root / "two.json").write_text(json.dumps(coco(two)))
    table, account = read(root, files={"train": "one.json", "val": "two.json"})
    assert table["split"].to_list() == ["train", "val", "val"]
    assert account["splits"] == {"train": 1, "val": 2}


def test_folders_of_images_may_be_by_split(root):
    (root / "pictures" / "b" / "3.png").rename(root / "3.png")
    (root / "one.json").write_text(json.dumps(coco({"2.jpg": ["x"]})))
    (root / "two.json").write_text(json.dumps(coco({"3.png": ["y"]})))
    settings = CaptionsData(
        source="captions", files={"train": "one.json", "test": "two.json"},
        images={"train": "pictures", "test": ""},
    )  # fmt: skip
    table, _ = source_class("captions")(settings, Site(data_root=str(root)), "r").read()
    assert table["image"].to_list() == ["pictures/2.jpg", "3.png"]
    with pytest.raises(ValidationError, match="files are not of the same splits"):
        CaptionsData(source="captions", files="one.json", images={"train": "pictures"})
    with pytest.raises(ValidationError, match="expected a folder under data_root"):
        CaptionsData(source="captions", files="one.json", images="../elsewhere")


def test_a_limit_draws_images_of_all_or_of_a_split(root):
    table, account = read(root, files="captions.txt", limit=2)
    assert table.height == account["rows_out"] == 2
    assert account["dropped"] == {"limit": 1}
    assert read(root, files="captions.txt", limit=2)[0].equals(table)
    table, _ = read(root, files="karpathy.json", limit={"train": 1})
    assert sorted(table["split"].to_list()) == ["test", "train"]
    assert read(root, files="karpathy.json", limit={"test": 5})[0].height == 3
    told = refused(root, files="coco.json", limit={"train": 1})
    assert "data.limit.train: no image is of split train" in told


def test_a_split_of_another_name_is_one_line(root):
    (root / "k.json").write_text(json.dumps(karpathy(splits=("train", "dev", "test"))))
    told = refused(root, files="k.json")
    assert "k.json images[1]: split is 'dev', expected train, restval, val, test" in told


@pytest.mark.parametrize(
    ("captions", "where", "what"),
    [
        ({**CAPTIONS, "1.jpg": ["A dog.", " "]}, "annotations[1]", "expected a caption;"),
        ({**CAPTIONS, "2.jpg": []}, "images[1]", "expected a caption of the image;"),
        ({**CAPTIONS, "4.jpg": ["A ghost."]}, "images[3]", "expected an image that is there;"),
        ({**CAPTIONS, "../x.jpg": ["A spy."]}, "images[3]", "an image inside of the folder"),
    ],
)
def test_what_is_bad_is_named_by_its_place_and_its_text_is_not_shown(root, captions, where, what):
    (root / "bad.json").write_text(json.dumps(coco(captions)))
    told = refused(root, files="bad.json")
    assert told.startswith(f"data: 1 bad places: bad.json {where}: ")
    assert what in told
    assert "ghost" not in told
    table, account = read(root, files="bad.json", on_bad_row="drop", max_dropped_share=0.2)
    assert sum(account["dropped"].values()) == 1
    assert table.height == (2 if captions["2.jpg"] == [] else 3)
    few = refused(root, files="bad.json", on_bad_row="drop", max_dropped_share=0.01)
    assert "data.max_dropped_share allows 1.00%" in few


def test_an_image_of_which_no_caption_is_left_is_counted(root):
    (root / "bad.json").write_text(json.dumps(coco({**CAPTIONS, "2.jpg": [""]})))
    table, account = read(root, files="bad.json", on_bad_row="drop", max_dropped_share=0.5)
    assert table["image"].to_list() == ["pictures/1.jpg", "pictures/b/3.png"]
    assert account["dropped"] == {"empty_caption": 1, "no_caption": 1}


def test_a_caption_of_no_image_is_named(root):
    told = coco()
    told["annotations"][4]["image_id"] = 99
    (root / "bad.json").write_text(json.dumps(told))
    assert "bad.json annotations[4]: expected an image_id of images" in refused(
        root, files="bad.json"
    )


def test_rows_of_a_csv_are_counted_as_a_spreadsheet_does(root):
    with (root / "captions.txt").open("a") as file:
        file.write("1.jpg,\n,A caption.\n\n9.jpg,Nothing.\n")
    told = refused(root, files="captions.txt")
    assert told.startswith("data: 3 bad places: ")
    for line in ("row 8: expected a caption;", "row 9: expected the name of an image",
                 "row 11: expected an image that is there"):  # fmt: skip
        assert f"captions.txt {line}" in told


def test_an_image_that_is_there_twice_is_one_line(root):
    told = coco()
    told["images"].append({"id": 77, "file_name": "2.jpg"})
    told["annotations"].append({"id": 1, "image_id": 77, "caption": "Again."})
    (root / "bad.json").write_text(json.dumps(told))
    assert "1 images are there more than once" in refused(root, files="bad.json")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b'{"pictures": []}', "unknown layout, found the keys pictures"),
        ("a.json", b"[1, 2]", "unknown layout, found a list"),
        ("a.json", b'{"images": [{"filename": "1.jpg"}]}', "unknown layout, found the keys images"),
        ("a.json", b'{"images":\n [', "is not JSON in line 2"),
        ("a.json", b'{"images": "\xff"}', "is not UTF-8, found byte 0xff at place 12"),
        ("a.txt", b"picture,text\n1.jpg,x\n", "found the columns picture, text; expected COCO's"),
        ("a.txt", b"image,caption\n1.jpg,\xe9t\xe9\n", "is not UTF-8, found byte 0xe9"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"image,caption\n", "no image is left"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(root, name, content, told):
    (root / name).write_bytes(content)
    assert told in refused(root, files=name)


def test_what_is_not_there_is_one_line(root, tmp_path):
    assert "data.files: no file" in refused(root, files="none.json")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "coco.json").write_text("{}")
    assert "data.images: no folder" in refused(tmp_path / "other", files="coco.json")
    source = source_class("captions")
    settings = CaptionsData(source="captions", files="coco.json")
    with pytest.raises(InputError, match="data_root: not set, but study mine reads captioned"):
        source(settings, Site(), "results/mine").check()


@pytest.mark.parametrize("file", ["captions.json", "captions.txt"])
def test_photographs_of_coco_in_two_layouts(shared_data, tmp_path, file):
    root = shared_data / "coco-captions-cc"
    data = CaptionsData(source="captions", files=file, images="images").model_dump(mode="json")
    site = Site(data_root=str(root)).model_dump(mode="json")
    output, account = tmp_path / "examples.parquet", tmp_path / "examples.json"
    read_examples(data, site, output=output, account=account)
    table = pl.read_parquet(output)
    assert table.height == 62
    assert set(table["report"].list.len()) == {5}
    first = table.row(0, named=True)
    assert first["image"] == "images/000000000790.jpg"
    assert first["report"][:2] == [
        "a family is sitting down at a table to have cake",
        "Group around a table waiting for a birthday cake to be served.",
    ]
    assert json.loads(account.read_text())["rows_out"] == 62
