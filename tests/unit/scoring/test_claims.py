"""What a run would have claimed under its defects."""

import json
import math
from typing import Any

import polars as pl
import pytest
import sacrebleu
from published_loss import EVERY, published_loss
from tiny_study import TinyStudy, arm_of, task_of

from peft_ablation.as_published import AsPublished
from peft_ablation.scoring.claims import claimed_costs, write_claims

COST = {
    "total_parameters": 1_000_000, "peak_memory_mb": 500.0, "train_seconds": 60.0,
    "waiting_seconds": 15.0,
}  # fmt: skip
FIRST = 10
WORDS = ("no", "evidence", "of", "edema", "is", "present", ".")


@pytest.mark.parametrize(
    ("defects", "memory", "seconds"),
    [
        ({}, 500.0, 60.0),
        ({"memory_after_loading": True}, 4.0, 60.0),
        ({"time_with_waiting": True}, 500.0, 75.0),
    ],
)
def test_memory_and_time_claimed_by_hand(
    defects: dict[str, bool], memory: float, seconds: float
) -> None:
    claimed = claimed_costs(AsPublished.model_validate(defects), COST)
    assert claimed == {"peak_memory_mb": memory, "train_seconds": seconds}


def predictions(study: TinyStudy) -> pl.DataFrame:
    """Made-up predictions for the test split, better for the first rows than for the others."""
    table = pl.read_parquet(study.split("test"))
    right = " ".join(WORDS)
    return pl.DataFrame(
        {
            "example_id": table["example_id"],
            "group": table["group"],
            "reference": [right] * table.height,
            "hypothesis": [
                right if place < FIRST else " ".join(WORDS[place % 3 :])
                for place in range(table.height)
            ],
            "tokens": pl.Series([8] * table.height, dtype=pl.Int32),
            "nll": [4.0 if place < FIRST else 8.0 for place in range(table.height)],
        }
    )


@pytest.fixture(scope="module")
def claims(
    tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by arm and measure, of an untouched base as three arms."""
    folder = tmp_path_factory.mktemp("claims")
    predictions(tiny_study).write_parquet(folder / "predictions.parquet")
    (folder / "cost.json").write_text(json.dumps(COST))
    own = arm_of({"method": "full", "learning_rate": 1e-3})
    arms = {
        "fft": own,
        "few": {**own, "as_published": {"test_examples": FIRST}},
        "all": {**own, "as_published": {**EVERY, "test_examples": FIRST}},
    }
    write_claims(
        task=task_of(), arms=arms, runs=[(arm, 0) for arm in arms],
        models=[tiny_study.base] * 3, bases=[tiny_study.base] * 3,
        predictions=[folder / "predictions.parquet"] * 3, costs=[folder / "cost.json"] * 3,
        train=tiny_study.split("train"), test=tiny_study.split("test"),
        assets={"images": tiny_study.index}, precision="fp32", threads=1, batch_size=16,
        output=folder / "claims.csv",
    )  # fmt: skip
    table = pl.read_csv(folder / "claims.csv", infer_schema_length=None)
    return {(row["arm"], row["measure"]): row for row in table.iter_rows(named=True)}


def test_without_defects_what_is_claimed_is_true(claims: dict[tuple[str, str], Any]) -> None:
    own = [row for (arm, _), row in claims.items() if arm == "fft"]
    assert len(own) > 4
    assert all(row["claimed"] == row["true"] for row in own)


def test_scores_are_claimed_from_the_first_rows_alone(
    claims: dict[tuple[str, str], Any], tiny_study: TinyStudy
) -> None:
    table = predictions(tiny_study)
    every = sacrebleu.corpus_bleu(table["hypothesis"].to_list(), [table["reference"].to_list()])
    for arm in ("few", "all"):
        assert claims[arm, "bleu"]["claimed"] == pytest.approx(100)
        assert claims[arm, "bleu"]["true"] == pytest.approx(every.score)
    rows = table.height
    true = (4 * FIRST + 8 * (rows - FIRST)) / (8 * rows)
    assert claims["few", "test_loss"]["claimed"] == pytest.approx(0.5)
    assert claims["few", "test_loss"]["true"] == pytest.approx(true)


def test_the_loss_claimed_is_that_of_the_published_code(
    claims: dict[tuple[str, str], Any], tiny_study: TinyStudy
) -> None:
    row = claims["all", "test_loss"]
    expected = published_loss(tiny_study, "test", task_of()["prompt"], FIRST)
    assert row["claimed"] == pytest.approx(expected, rel=1e-5)
    vocabulary = json.loads((tiny_study.base / "config.json").read_text())["vocab_size"]
    assert row["uniform"] == pytest.approx(math.log(vocabulary))
