"""`sample_5000_per_label`: images drawn so that every label has positives, rare ones first.

Both strategies are one rule: the labels are gone through in some order, and each draws, from one
shuffle of all rows, the first rows that count for it and that no earlier label has drawn, up to its
quota. Walking the shuffle once and charging each image to the first label with an open quota (as
published) gives the same draw, since what a label takes depends on the labels before it alone.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from peft_ablation.artifacts import write_table
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS, Mention, display_name

log = logging.getLogger(__name__)

Strategy = Literal["rarest_first", "first_open_quota"]

NOT_MENTIONED: Final = -2
"""How an empty cell is coded in a label matrix."""


@dataclass(frozen=True)
class Draw:
    """One draw of rows.

    `charged`: int64 (N,), index into `LABELS` of the label each row was drawn for, -1 if not drawn;
    `order`: indices of labels in the order in which they drew; `quotas`: rows wanted by label.
    """

    charged: npt.NDArray[np.int64]
    order: tuple[int, ...]
    quotas: tuple[int, ...]


def label_matrix(table: pl.DataFrame) -> npt.NDArray[np.int8]:
    """Return the labels as int8 (N, 14) in the order of `LABELS`; `NOT_MENTIONED` where null."""
    columns = [table[label].fill_null(NOT_MENTIONED).to_numpy() for label in LABELS]
    return np.stack(columns, axis=1).astype(np.int8, copy=False)


def draw(
    labels: npt.NDArray[np.int8],
    strategy: Strategy,
    quota: int,
    count_values: Iterable[int],
    seed: int,
) -> Draw:
    """Draw rows of a label matrix (N, 14).

    `rarest_first`: labels from the one with fewest counting rows to the one with most; each wants
    `quota` rows not yet drawn, or all that count. `first_open_quota`, as published: labels in the
    order of `LABELS`; each wants `quota` rows, or as many as it has *positives* if those are fewer,
    even where other values count too. Ties of rarity go by the order of `LABELS`.
    """
    counts = np.isin(labels, list(count_values))
    positives = (labels == Mention.PRESENT).sum(axis=0)
    if strategy == "rarest_first":
        available = counts.sum(axis=0)
        order = np.argsort(available, kind="stable")
    else:
        available = positives
        order = np.arange(labels.shape[1])
    quotas = np.minimum(quota, available)
    shuffle = np.random.default_rng(seed).permutation(len(labels))
    shuffled = counts[shuffle]
    charged = np.full(len(labels), -1, dtype=np.int64)
    for label in order:
        rows = np.flatnonzero(shuffled[:, label] & (charged < 0))[: quotas[label]]
        charged[rows] = label
    unshuffled = np.empty_like(charged)
    unshuffled[shuffle] = charged
    return Draw(unshuffled, tuple(order.tolist()), tuple(quotas.tolist()))


def sample_table(
    table: str | Path,
    *,
    strategy: Strategy,
    quota: int,
    count_values: Sequence[int],
    seed: int,
    absent_labels: Literal["fail", "skip"] = "fail",
    output: str | Path,
    csv: str | Path,
    account: str | Path,
) -> None:
    """Write the drawn rows of `table` with `charged_label`, and the account by label.

    The rows keep the order of `table`. The account has one row a label, in the order of drawing:
    `label`, `available` (rows whose value counts), `positives` (rows with value 1), `quota`,
    `charged`, and among the rows of the sample `final_positives`, `final_suspected`,
    `final_absent` and `final_not_mentioned`. Raises `InputError` for a quota below 1 and, unless
    `absent_labels` is `skip`, for a label without one counting row.
    """
    if quota < 1:
        raise InputError(f"sample.quota: found {quota}, expected at least 1")
    cohort = pl.read_parquet(table)
    labels = label_matrix(cohort)
    counting = np.isin(labels, list(count_values)).sum(axis=0)
    check_labels_present(counting, count_values, absent_labels, str(table))
    drawn = draw(labels, strategy, quota, count_values, seed)
    kept = drawn.charged >= 0
    names = pl.Series("charged_label", [LABELS[label] for label in drawn.charged[kept]])
    sampled = cohort.filter(pl.Series(kept)).with_columns(names)
    report = _account(labels, labels[kept], drawn, counting)
    write_table(sampled, output, csv)
    write_table(report, account)
    log.info("drew %d of %d rows", sampled.height, cohort.height)


def check_labels_present(
    counting: npt.NDArray[np.int64],
    count_values: Sequence[int],
    absent_labels: Literal["fail", "skip"],
    where: str,
) -> None:
    """Raise `InputError` where a label has no counting row; with `skip` only where none has."""
    values = " or ".join(str(value) for value in count_values)
    if not counting.any():
        raise InputError(f"{where}: no row has value {values} for any label; nothing to draw")
    absent = [display_name(LABELS[label]) for label in np.flatnonzero(counting == 0)]
    if absent and absent_labels == "fail":
        raise InputError(
            f"{where}: no row has value {values} for {', '.join(absent)}; "
            "to go on without, set sample.absent_labels: skip"
        )


def _account(
    labels: npt.NDArray[np.int8],
    final: npt.NDArray[np.int8],
    drawn: Draw,
    counting: npt.NDArray[np.int64],
) -> pl.DataFrame:
    order = list(drawn.order)
    charged = np.bincount(drawn.charged[drawn.charged >= 0], minlength=len(LABELS))
    columns = {
        "available": counting,
        "positives": (labels == Mention.PRESENT).sum(axis=0),
        "quota": np.array(drawn.quotas),
        "charged": charged,
        "final_positives": (final == Mention.PRESENT).sum(axis=0),
        "final_suspected": (final == Mention.SUSPECTED).sum(axis=0),
        "final_absent": (final == Mention.ABSENT).sum(axis=0),
        "final_not_mentioned": (final == NOT_MENTIONED).sum(axis=0),
    }
    return pl.DataFrame(
        {
            "label": [LABELS[label] for label in order],
            **{name: values[order].astype(np.int64) for name, values in columns.items()},
        }
    )
