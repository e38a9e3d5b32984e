"""The page and the figure of the memory table, and published memory beside ours."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.comparison.memory import memory_blocks, read_published_memory
from peft_ablation.comparison.pages import Items, Table, markdown
from peft_ablation.comparison.published import PUBLISHED
from peft_ablation.errors import InputError
from peft_ablation.figures.memory import plot_memory

HEADER = (
    "arm,published_as,batch_size,length,gradient_checkpointing,value,unit,scale,source,"
    "not_comparable\n"
)
SHIPPED = sorted(path.stem for path in (PUBLISHED / "memory").glob("*.csv"))


def row(**changed: Any) -> dict[str, Any]:
    return {
        "arm": "qlora", "method": "qlora", "rank": 64, "batch_size": 16, "length": 128,
        "supervised": 1000, "gradient_checkpointing": False, "optimizer": "adamw",
        "status": "measured", "peak_mb": 9123.4, "reserved_peak_mb": 9500.0,
        "kept_for_backward_mb": 6000.0, "expected_mb": 2600.0, "expected_frozen_mb": 1553.0,
        "expected_trained_mb": 180.4, "expected_gradients_mb": 180.4,
        "expected_optimizer_mb": 360.7, "expected_logits_mb": 513.0, "memory_kind": "gpu_allocated",
        "device": "a GPU", "precision": "bf16", "reason": None, **changed,
    }  # fmt: skip


OUT = {
    "status": "out of memory", "peak_mb": None, "reserved_peak_mb": None,
    "kept_for_backward_mb": None, "memory_kind": None, "device": None, "precision": None,
    "reason": "CUDA out of memory",
}  # fmt: skip
PUBLISHED_ROW = {
    "arm": "qlora", "published_as": "QLoRA", "batch_size": 16, "length": 128,
    "gradient_checkpointing": False, "value": "15", "unit": "GB", "scale": 0.001, "source": "x",
    "not_comparable": "Another GPU.",
}  # fmt: skip


def tables(rows: list[dict[str, Any]], *published: dict[str, Any]) -> list[list[list[str]]]:
    blocks = memory_blocks(rows, published, "s")
    return [[list(r) for r in block.rows] for block in blocks if isinstance(block, Table)]


def test_out_of_memory_stands_where_a_peak_would() -> None:
    measured, _ = tables([row(), row(batch_size=64, **OUT)])
    assert [cells[7] for cells in measured] == ["9,123.4", "out of memory"]
    assert [cells[10] for cells in measured] == ["2,600.0", "2,600.0"]
    text = markdown(memory_blocks([row(batch_size=64, **OUT)], [], "s"))
    assert "- qlora, 64 examples of length 128, adamw: out of memory: CUDA out of memory" in text


def test_what_the_formula_adds_up_is_told_once_an_arm_and_optimizer() -> None:
    rows = [row(), row(batch_size=3), row(optimizer="adamw_8bit", expected_optimizer_mb=91.6)]
    _, expected = tables(rows)
    assert [cells[1] for cells in expected] == ["adamw", "adamw_8bit"]
    assert expected[1][2:] == ["1,553.0", "180.4", "180.4", "91.6"]


@pytest.mark.parametrize(
    ("rows", "ours"),
    [
        ([row()], "9 GB"),
        ([row(**OUT)], "out of memory"),
        ([row(gradient_checkpointing=True)], "–"),
        ([row(arm="lora")], "–"),
        ([row(length=256)], "–"),
        ([row(batch_size=3)], "–"),
    ],
    ids=["measured", "out of memory", "checkpointing", "arm", "length", "batch"],
)
def test_ours_stands_beside_the_published_of_the_same_configuration(
    rows: list[dict[str, Any]], ours: str
) -> None:
    published = tables(rows, PUBLISHED_ROW)[-1]
    assert published == [["QLoRA", "16", "128", "no", "15 GB", ours, "qlora", "x"]]
    (reasons,) = [
        block.items
        for block in memory_blocks(rows, [PUBLISHED_ROW], "s")
        if isinstance(block, Items) and "Another GPU." in block.items
    ]
    assert reasons == ["Another GPU."]


def test_the_figure_names_each_row_and_shows_both(tmp_path: Path) -> None:
    rows = [row(), row(batch_size=64, gradient_checkpointing=True, **OUT)]
    pl.DataFrame(rows, infer_schema_length=None).write_csv(tmp_path / "memory.csv")
    outputs = [tmp_path / f"figure.{ending}" for ending in ("svg", "csv")]
    plot_memory(tmp_path / "memory.csv", outputs=outputs)
    assert pl.read_csv(tmp_path / "figure.csv").equals(pl.read_csv(tmp_path / "memory.csv"))
    drawn = outputs[0].read_text(encoding="utf-8")
    for text in ("qlora, 16 × 128", "qlora, 64 × 128, checkpointing", "out of memory"):
        assert f"<!-- {text} -->" in drawn


# -- published tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("study", SHIPPED)
def test_shipped_memory_is_what_was_read_in_the_reports(study: str, shared_data: Path) -> None:
    facts = shared_data.parent / "FACTS.md"
    if not facts.is_file():
        pytest.skip(f"no {facts}")
    read = re.sub(r"\s+", " ", facts.read_text(encoding="utf-8"))
    for one in read_published_memory(study, [PUBLISHED]):
        checkpointing = " with checkpointing" if one["gradient_checkpointing"] else ""
        told = f"{one['batch_size']}x{one['length']}{checkpointing}: {one['value']} {one['unit']}"
        assert told in read, told


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("a,b,16,128,false,15,GB,0.001,s", "row 1: found 9 cells, expected 10; quote commas"),
        ("a,b,16,128,no,15,GB,0.001,s,", "row 1: gradient_checkpointing: found 'no', expected tr"),
        ("a,b,16,many,true,15,GB,0.001,s,", "row 1: length: found 'many', expected a number"),
    ],
)
def test_a_table_of_published_memory_that_is_none_is_refused(
    cells: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    path = tmp_path / "memory" / "mine.csv"
    path.write_text(f"{HEADER}{cells}\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_published_memory("mine", [tmp_path])
    assert str(refused.value).startswith(f"{path}: {told}"), refused.value
    assert read_published_memory("another", [tmp_path]) == []
