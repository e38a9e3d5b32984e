"""GLUE's own files through the shipped studies, up to tokens; and what the arms start from."""

from pathlib import Path

import polars as pl
import pytest

from peft_ablation.config.loading import load_config
from peft_ablation.config.runs import runs_needed
from peft_ablation.data.examples import checked_examples
from peft_ablation.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
STUDIES = [ROOT / "config" / "studies"]
# Rows, texts, classes, headline: counted in the files by hand (wc -l less the header).
TASKS = {
    "cola": (1900, 1, ("acceptable", "unacceptable"), "matthews"),
    "sst2": (1900, 1, ("negative", "positive"), "accuracy"),
    "mrpc": (1806, 2, ("different", "same"), "accuracy"),
    "qqp": (1900, 2, ("different", "duplicate"), "accuracy"),
    "stsb": (1900, 2, (), "pearson"),
    "mnli": (1900, 2, ("entailment", "neutral", "contradiction"), "accuracy"),
    "qnli": (1900, 2, ("entailment", "not_entailment"), "accuracy"),
    "rte": (1707, 2, ("entailment", "not_entailment"), "accuracy"),
}


def config_of(task: str, root: Path, **site: object):
    settings = {"study": f"glue_{task}", "data_root": str(root / "glue-slices"), **site}
    return load_config(settings, STUDIES)


@pytest.mark.parametrize("task", TASKS)
def test_every_row_of_a_task_is_read_as_it_is(shared_data: Path, task: str) -> None:
    config = config_of(task, shared_data)
    table, account = config.source.read()
    table = checked_examples(table, "table")
    rows, texts, classes, headline = TASKS[task]
    assert table.height == account["rows_in"] == rows
    bound = config.task(config.study.task.model_dump(mode="json"), table)
    assert bound.pairs == (texts == 2)
    assert bound.classes == classes
    assert bound.headline == headline
    metrics = {metric.name for metric in bound.metrics}
    assert headline in metrics
    assert ("f1" in metrics) == (task in ("mrpc", "qqp"))
    assert table["text"].str.contains("\ufeff").sum() == 0


def test_labels_are_those_of_the_lines(shared_data: Path) -> None:
    rte, _ = config_of("rte", shared_data).source.read()
    lines = (shared_data / "glue-slices" / "RTE" / "train.tsv").read_text("utf-8").splitlines()
    for place, line in ((0, lines[1]), (700, lines[701])):
        _, one, other, label = line.split("\t")
        row = rte.row(place, named=True)
        assert (row["text"], row["text_pair"], row["label"]) == (one, other, label)
    stsb, _ = config_of("stsb", shared_data).source.read()
    assert stsb["score"].to_list()[:2] == [5.0, 2.6]
    assert stsb["score"].dtype == pl.Float64
    cola, _ = config_of("cola", shared_data).source.read()
    own = [row for row in cola.iter_rows(named=True) if row["split"] == "test"]
    assert own[2]["text"] == "The more you would want, the less you would eat."
    assert own[2]["label"] == "unacceptable"


def test_quotes_of_mrpc_are_text(shared_data: Path) -> None:
    mrpc, _ = config_of("mrpc", shared_data).source.read()
    lines = (shared_data / "glue-slices" / "MRPC" / "train.tsv").read_text("utf-8-sig")
    second = lines.splitlines()[1].split("\t")
    assert mrpc["text"][0] == second[3]
    assert '"' in second[3]
    assert mrpc["label"][0] == "same"


@pytest.mark.parametrize("task", TASKS)
def test_all_but_mnli_have_an_arm_that_starts_from_its_adapter(
    shared_data: Path, task: str
) -> None:
    for smoke in (False, True):
        config = config_of(task, shared_data, smoke=smoke)
        arms = ["fft", "lora", "lora_mnli", "bitfit", "head_only"]
        if task == "mnli":
            arms.remove("lora_mnli")
        assert list(config.study.arms) == arms
        assert (config.study.arms["lora"].r, config.study.arms["lora"].alpha) == (8, 16)
        needed = [(run.study, run.arm, run.seed) for run in runs_needed(config)]
        assert needed == ([] if task == "mnli" else [("glue_mnli", "lora", None)])


def test_an_adapter_needs_the_same_words(shared_data: Path, tmp_path: Path) -> None:
    """A tokenizer of bytes is the same in two studies, one trained on each one's texts is not."""
    assert runs_needed(config_of("rte", shared_data, smoke=True))
    site = {"data_root": str(shared_data / "glue-slices"), "smoke": True}
    for name, start in (
        ("one", "null"),
        ("two", "{study: " + f"{tmp_path}/one.yaml" + ", arm: a}"),
    ):
        (tmp_path / f"{name}.yaml").write_text(
            f"""
extends: glue_rte
arms: {{fft: null, lora_mnli: null, bitfit: null, head_only: null, lora: null,
  a: {{method: lora, targets: query_value, learning_rate: 1.0, init_from: {start}}}}}
smoke: {{base: {{random: {{tokenizer: {{vocabulary: 300}}}}}}}}
"""
        )
    config = load_config({**site, "study": str(tmp_path / "two.yaml")}, STUDIES)
    with pytest.raises(InputError, match=r"arms\.a\.init_from: .*fits its own base alone"):
        runs_needed(config)
