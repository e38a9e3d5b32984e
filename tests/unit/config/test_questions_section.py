"""What a study may say of questions, and what is refused with one line before any job."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_ablation.config.loading import Config, load_config
from peft_ablation.config.questions import Questions, untouched
from peft_ablation.errors import InputError

STUDY: dict[str, Any] = {
    "task": {"name": "text_generation"},
    "data": {"source": "table", "files": "t.csv", "columns": {"prompt": "p", "reference": "r"}},
    "base": {"id": "some/gpt2", "revision": "a" * 40, "model_type": "gpt2"},
    "train": {"seeds": [0, 1]},
    "arms": {"fft": {"method": "full", "learning_rate": 1e-3}},
}
TEXTS = ["What is rain?", "Why is the sky blue?"]


def load(folder: Path, **changed: Any) -> Config:
    (folder / "t.csv").write_text("p,r\na,b\n")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changed}))
    return load_config(
        {"study": str(path), "data_root": str(folder), "results": str(folder / "results")}
    )


def test_a_file_holds_one_question_a_line(tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("\ufeffWhat is rain?\r\n\n \n  Why is the sky blue?\n", encoding="utf-8")
    assert list(Questions(file=str(path)).asked) == TEXTS


def test_an_instruct_model_lies_among_the_bases(tmp_path: Path) -> None:
    model = {"id": "some/chat", "revision": "b" * 40}
    config = load(tmp_path, questions={"texts": TEXTS, "instruct": model})
    assert config.instruct is not None
    assert config.instruct.folder == f"resources/bases/some--chat@{'b' * 40}"
    assert load(tmp_path, questions={"texts": TEXTS}).instruct is None


def test_each_distinct_base_has_a_name() -> None:
    assert untouched({"fft": "a", "lora": "a"}) == {"a": "base"}
    assert untouched({"fft": "a", "lora": "b", "last": "a"}) == {
        "a": "base_of_fft", "b": "base_of_lora",
    }  # fmt: skip


ARM = STUDY["arms"]["fft"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"questions": {}}, "questions: expected one of texts and file"),
        ({"questions": {"texts": TEXTS, "file": "x"}}, "expected one of texts and file"),
        ({"questions": {"texts": []}}, r"questions\.texts: "),
        ({"questions": {"texts": [" "]}}, r"questions\.texts\.0: found ' '"),
        ({"questions": {"texts": ["a", "b", "a"]}}, "questions: number 3 repeats number 1"),
        ({"questions": {"file": "gone.txt"}}, r"questions\.file: gone\.txt: No such file"),
        ({"questions": {"texts": TEXTS, "seed": 2}}, r"questions\.seed: found 2, .*seeds: 0, 1"),
        ({"questions": {"texts": TEXTS, "scale": [9, 1]}}, r"scale: found \[9\.0, 1\.0\], expect"),
        ({"questions": {"texts": TEXTS, "grades": "gone.csv"}}, r"grades: no file gone\.csv; "),
        (
            {"questions": {"texts": TEXTS, "instruct": {"id": "some/chat"}}},
            r"questions\.instruct\.revision: missing",
        ),
        (
            {"questions": {"texts": TEXTS, "instruct": {"id": "phantom"}}},
            r"questions\.instruct: found no id of a model",
        ),
        (
            {"questions": {"texts": TEXTS,
                           "instruct": {"id": "a/b", "revision": "main", "model_type": "vit"}}},
            r"questions\.instruct\.model_type is 'vit', expected gpt2",
        ),
        (
            {"questions": {"texts": TEXTS}, "arms": {"instruct": ARM}},
            r"arms\.instruct: found an arm 'instruct', which is what the table of answers calls",
        ),
        ({"questions": {"texts": TEXTS}, "arms": {"base": ARM}}, r"arms\.base: found an arm"),
        (
            {"questions": {"texts": TEXTS}, "task": {"name": "text_classification"},
             "data": {"source": "table", "files": "t.csv", "columns": {"text": "p", "label": "r"}},
             "base": {"id": "a/b", "revision": "main", "model_type": "roberta"}},
            "questions: task text_classification does not answer questions",
        ),
    ],
    ids=[
        "neither", "both", "no question", "blank", "twice", "no file", "seed", "scale", "no grades",
        "no commit", "phantom", "another architecture", "arm instruct", "arm base", "task",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as told:
        load(tmp_path, **changed)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("study study: ")


def test_grades_among_the_results_would_be_written_over(tmp_path: Path) -> None:
    sheet = tmp_path / "results" / "study" / "questions" / "grading_sheet.csv"
    sheet.parent.mkdir(parents=True)
    sheet.touch()
    with pytest.raises(InputError, match=r"grades: .* lies among the results, where a later run"):
        load(tmp_path, questions={"texts": TEXTS, "grades": str(sheet)})


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty, expected one q"), (b"what \xff", "not UTF-8 at byte 5")]
)
def test_a_file_of_questions_that_cannot_be_read_is_one_line(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "asked.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        load(tmp_path, questions={"file": str(path)})
