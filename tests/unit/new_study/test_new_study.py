"""A table becomes a study that starts: columns guessed, said why, and as a person says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from PIL import Image

from peft_ablation.config.loading import load_config
from peft_ablation.errors import InputError
from peft_ablation.new_study.guesses import guess_columns
from peft_ablation.new_study.study_file import Written, write_study

SENTENCES = [f"sentence number {row} of a few words" for row in range(30)]


def guessed(given: dict[str, Any] | None = None, /, **columns: list[Any]) -> dict[str, str | int]:
    table = pl.DataFrame(columns).select(pl.all().cast(pl.String))
    return {role: guess.column for role, guess in guess_columns(table, given or {}).items()}


def test_a_sentence_and_its_label_are_found_by_names_and_values() -> None:
    found = guessed(sentence=SENTENCES, sentiment=["good", "bad"] * 15, length=list(range(30)))
    assert found == {"text": "sentence", "label": "sentiment"}


def test_a_label_without_a_name_is_the_column_of_few_values() -> None:
    found = guessed(a=SENTENCES, b=list(range(30)), c=["x", "y", "z"] * 10)
    assert found == {"text": "a", "label": "c"}


def test_two_texts_are_a_pair_by_their_names() -> None:
    found = guessed(hypothesis=SENTENCES, premise=SENTENCES, gold_label=["e", "n", "c"] * 10)
    assert (found["text"], found["text_pair"]) == ("premise", "hypothesis")


def test_a_score_is_a_number_and_a_genre_beside_it_no_label() -> None:
    scores = [row / 7 for row in range(30)]
    assert guessed(text=SENTENCES, genre=["a", "b"] * 15, score=scores)["score"] == "score"
    found = guessed(text=SENTENCES, label=["a", "b"] * 15, score=scores)
    assert found["label"] == "label" and "score" not in found


def test_numbers_with_fractions_are_no_classes() -> None:
    assert "label" not in guessed(text=SENTENCES, amount=[0.5, 1.5, 2.5] * 10)


def test_images_are_names_of_image_files() -> None:
    files = [f"a/{row}.JPG" for row in range(30)]
    found = guessed(species=["cat", "dog"] * 15, where=files, note=SENTENCES)
    assert found == {"image": "where", "label": "species"}
    assert guessed(where=files, caption=SENTENCES) == {"image": "where", "report": "caption"}


def test_splits_groups_and_ids_are_found() -> None:
    found = guessed(
        id=list(range(30)),
        patient_id=[row // 3 for row in range(30)],
        part=["train", "train", "dev"] * 10,
        text=SENTENCES,
        label=["x", "y"] * 15,
    )
    assert (found["example_id"], found["group"], found["split"]) == ("id", "patient_id", "part")


def test_an_id_that_repeats_is_none() -> None:
    found = guessed(id=[0, *range(29)], text=SENTENCES, label=["x", "y"] * 15)
    assert "example_id" not in found


def test_what_a_person_says_goes_before_every_guess() -> None:
    columns: dict[str, list[Any]] = {
        "text": SENTENCES,
        "label": ["x", "y"] * 15,
        "k": ["a", "b"] * 15,
    }
    assert guessed({"label": "k"}, **columns)["label"] == "k"
    with_owner = {**columns, "owner": [row // 3 for row in range(30)]}
    assert guessed(**with_owner)["group"] == "owner"
    assert "group" not in guessed({"group": None}, **with_owner)


@pytest.mark.parametrize(
    ("given", "columns", "told"),
    [
        ({"lable": "a"}, {"a": SENTENCES}, "found role 'lable', allowed: .*did you mean 'label'"),
        ({"label": "king"}, {"a": SENTENCES, "kind": SENTENCES}, "no column 'king', found a, kind"),
        ({}, {"a": SENTENCES}, "no column looks like a label .*--column label=NAME"),
        (
            {},
            {"a": ["x", "y"] * 15, "b": [1, 2] * 15},
            "looks like names of image files or like te",
        ),
    ],
)
def test_what_cannot_be_guessed_is_one_line(
    given: dict[str, Any], columns: dict[str, list[Any]], told: str
) -> None:
    with pytest.raises(InputError, match=told) as error:
        guessed(given, **columns)
    assert "\n" not in str(error.value)


def write(folder: Path, table: Path, **settings: Any) -> Written:
    return write_study(table, folder=folder / "studies", **settings)


def texts(folder: Path, name: str = "my-reviews.tsv", header: bool = True) -> Path:
    rows = [f'{text} "\t{"good" if row % 2 else "bad"}' for row, text in enumerate(SENTENCES)]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["review\tlabel"] * header + rows) + "\n")
    return folder / name


def pictures(folder: Path) -> Path:
    (folder / "pics").mkdir(parents=True)
    for row in range(12):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(folder / f"pics/{row}.png")
    pl.DataFrame({"file": [f"{row}.png" for row in range(12)], "kind": ["a", "b"] * 6}).write_csv(
        folder / "list.csv"
    )
    return folder / "list.csv"


def test_a_study_of_texts_starts_as_it_is_written(tmp_path: Path) -> None:
    written = write(tmp_path, texts(tmp_path))
    assert written.path == tmp_path / "studies/my_reviews.yaml"
    assert written.warning is None
    config = load_config({"study": str(written.path), "data_root": str(written.root)})
    assert config.study.task.name == "text_classification"
    assert list(config.study.arms) == ["fft", "lora", "head_only"]
    table, _ = config.source.read()
    assert table["text"][0] == f'{SENTENCES[0]} "'
    text = written.path.read_text()
    assert "named like a label, 2 classes of 15 to 15 rows" in text
    assert f"data_root={tmp_path}" in text


def test_a_study_of_pictures_starts_as_it_is_written(tmp_path: Path) -> None:
    written = write(tmp_path, pictures(tmp_path), images=tmp_path / "pics", name="mine")
    assert (written.path.name, written.root) == ("mine.yaml", tmp_path / "pics")
    for smoke in (False, True):
        site = {"study": str(written.path), "data_root": str(written.root), "smoke": smoke}
        config = load_config(site)
        assert config.source.read()[0]["image"].to_list() == [f"{row}.png" for row in range(12)]


def test_images_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"column file names '0.png', which is not under .*--images"
    ):
        write(tmp_path, pictures(tmp_path))
    assert not (tmp_path / "studies").exists()


def test_a_table_without_header_has_its_columns_by_place(tmp_path: Path) -> None:
    written = write(tmp_path, texts(tmp_path, "reviews.tsv", header=False))
    told = yaml.safe_load(written.path.read_text())["data"]
    assert (told["header"], told["columns"]["label"]) == (False, 2)


def test_equal_texts_stay_in_one_split(tmp_path: Path) -> None:
    rows = [f"{text} twice,{'xy'[row % 2]}" for row, text in enumerate(SENTENCES)] * 2
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    written = write(tmp_path, tmp_path / "t.csv")
    assert yaml.safe_load(written.path.read_text())["data"]["columns"]["group"] == "text"


def test_a_study_is_never_written_over(tmp_path: Path) -> None:
    written = write(tmp_path, texts(tmp_path))
    before = written.path.read_bytes()
    with pytest.raises(InputError, match=r"my_reviews\.yaml exists already"):
        write(tmp_path, texts(tmp_path))
    with pytest.raises(InputError, match=r"phantom_cxr\.yaml exists already"):
        write(tmp_path, texts(tmp_path), name="phantom_cxr")
    assert written.path.read_bytes() == before


def test_bad_rows_are_told_and_the_study_is_written_all_the_same(tmp_path: Path) -> None:
    table = texts(tmp_path)
    table.write_text(table.read_text() + "no label\t\n")
    written = write(tmp_path, table)
    assert written.warning is not None and "row 32 column label" in written.warning


@pytest.mark.parametrize("name", ["yes", "a: b", "#1 String", "0"])
def test_a_column_of_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    pl.DataFrame({name: SENTENCES, "label": ["x", "y"] * 15}).write_csv(tmp_path / "t.csv")
    written = write(tmp_path, tmp_path / "t.csv", columns={"text": name}, header=True)
    assert yaml.safe_load(written.path.read_text())["data"]["columns"]["text"] == name


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    table = texts(tmp_path)
    command = [sys.executable, "-m", "peft_ablation.new_study", str(table), "--column", "group="]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "config/studies/my_reviews.yaml: text_classification" in done.stdout
    assert f"snakemake -n --config study=my_reviews data_root={tmp_path}" in done.stdout
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("peft-ablation: ") and again.stderr.count("\n") == 1
