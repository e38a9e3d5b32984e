"""Training, validation and test: rows divided by subject, study or image, labels balanced."""

import logging
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS, Mention

log = logging.getLogger(__name__)

Unit = Literal["subject", "study", "image"]

SPLITS: Final = ("train", "val", "test")
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "subject": ("subject_id",),
    "study": ("subject_id", "study_id"),
    "image": ("dicom_id",),
}
"""Columns that name a unit."""

EXCELLENT: Final = 0.02
MODERATE: Final = 0.05
"""Coefficients of variation below which a label's balance is excellent, or moderate; else poor.
The published study's verdicts."""

_REFINEMENTS: Final = 4
_TRIES: Final = 50
_TRIED_UNITS: Final = 20_000


def split_table(
    table: str | Path,
    *,
    unit: Unit,
    shares: Mapping[str, float],
    seed: int,
    outputs: Mapping[str, str | Path],
    csv: Mapping[str, str | Path],
    balance: str | Path,
    account: str | Path,
) -> None:
    """Divide the rows of `table` and write each split, the balance of labels and an account.

    `shares`, `outputs` and `csv` are by split (`train`, `val`, `test`). Rows keep the order of
    `table`. Raises `InputError` where there are fewer units than splits.
    """
    rows = pl.read_parquet(table)
    units = rows.select(KEYS[unit]).n_unique()
    if units < len(SPLITS):
        raise InputError(
            f"{table}: {units} {unit}{'s' * (units != 1)} in {rows.height} rows, expected at least "
            f"{len(SPLITS)}, one a split; use more data"
        )
    wanted = np.array([shares[split] for split in SPLITS])
    assigned = (
        split_images(rows, wanted, seed)
        if unit == "image"
        else split_units(rows, unit, wanted, seed)
    )
    parts = {split: rows.filter(pl.Series(assigned == k)) for k, split in enumerate(SPLITS)}
    balanced = balance_of(parts)
    write_table(balanced, balance)
    write_json(account, account_of(parts, unit, shares, seed, balanced))
    for split, part in parts.items():
        write_table(part, outputs[split], csv[split])
        log.info("%s: %d rows", split, part.height)


def positives_of(rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return bool (N, 14): where a label is present; null and -1 are not."""
    columns = [(rows[label] == Mention.PRESENT).fill_null(False).to_numpy() for label in LABELS]
    return np.stack(columns, axis=1)


def split_images(
    rows: pl.DataFrame, shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Divide images as published; returns int64 (N,), indices into `SPLITS`.

    `MultilabelStratifiedShuffleSplit` (Sechidis et al. 2011, iterative-stratification) takes test
    from all rows and then val from the rest, each with `seed`. It casts labels to bool, so -1
    counts as a positive here, unlike everywhere else: kept as it was published.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    labels = rows.select(pl.col(LABELS).fill_null(0)).to_numpy() != 0
    _, val, test = shares
    assigned = np.zeros(rows.height, dtype=np.int64)
    rest = np.arange(rows.height)
    for split, share in (("test", test), ("val", val / (1 - test))):
        division = MultilabelStratifiedShuffleSplit(
            n_splits=1, test_size=float(share), random_state=seed
        )
        try:
            kept, taken = next(division.split(np.zeros(len(rest)), labels[rest]))
        except ValueError as error:
            raise _too_small(rows.height, split, str(error)) from None
        if not len(taken) or not len(kept):
            raise _too_small(rows.height, split, "it would be empty")
        assigned[rest[taken]] = SPLITS.index(split)
        rest = rest[kept]
    return assigned


def _too_small(rows: int, split: str, why: str) -> InputError:
    reason = " ".join(why.split())
    return InputError(f"split: {rows} images are too few for {split} ({reason}); use more data")


def split_units(
    rows: pl.DataFrame, unit: Unit, shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Divide whole subjects or studies; returns int64 (N,), indices into `SPLITS`.

    Balances the positives of each label and the number of rows, see `assign_units`.
    """
    rank = pl.struct(KEYS[unit]).rank("dense").cast(pl.Int64)
    ids: npt.NDArray[np.int64] = rows.select(rank - 1).to_series().to_numpy()
    columns = np.column_stack([np.ones(rows.height), positives_of(rows)])
    counts = np.stack([np.bincount(ids, weights=column) for column in columns.T], axis=1)
    of_units = assign_units(counts.astype(np.float64, copy=False), shares, seed)
    return of_units[ids]


def assign_units(
    counts: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Assign units with `counts` (U, C) to splits with `shares` (K,); returns int64 (U,).

    Greedy, from the largest unit to the smallest (ties in an order drawn from `seed`): each unit
    goes where it leaves the least sum of squared deviations, each relative to what the split should
    hold, from the shares of what has been assigned so far. Further passes then move single units
    while that lowers the final sum. Few units are lumpy, so that the order matters: then other
    orders are tried too, and the best result is kept. No split stays empty while there are as many
    units as splits.
    """
    wanted = np.outer(shares, counts.sum(axis=0))
    weights = np.zeros_like(wanted)
    np.divide(1, wanted**2, out=weights, where=wanted > 0)
    random = np.random.default_rng(seed)
    shuffle = random.permutation(len(counts))
    order = shuffle[np.argsort(-counts[shuffle].sum(axis=1), kind="stable")]
    best, least = _assign_in_order(counts, shares, weights, order)
    for _ in range(min(_TRIES, _TRIED_UNITS // len(counts)) - 1):
        tried, cost = _assign_in_order(counts, shares, weights, random.permutation(len(counts)))
        if cost < least:
            best, least = tried, cost
    return _fill_empty(best, order, len(shares))


def _assign_in_order(
    counts: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], float]:
    """Assign greedily in `order`, refine, and return the splits (U,) and the weighted sum."""
    assigned = np.zeros(len(counts), dtype=np.int64)
    # What each split holds beyond its share of all that is assigned.
    excess = np.zeros_like(weights)
    own_cost = counts**2 @ weights.T
    for unit in order:
        count = counts[unit]
        excess -= np.multiply.outer(shares, count)
        split = ((weights * excess) @ (2 * count) + own_cost[unit]).argmin()
        excess[split] += count
        assigned[unit] = split
    for _ in range(_REFINEMENTS):
        moved = False
        for unit in order:
            count = counts[unit]
            before = assigned[unit]
            excess[before] -= count
            cost = (weights * excess) @ (2 * count) + own_cost[unit]
            split = cost.argmin()
            # Rounding must not move units to and fro for ever.
            if cost[split] >= cost[before] - 1e-12:
                split = before
            excess[split] += count
            assigned[unit] = split
            moved = moved or split != before
        if not moved:
            break
    return assigned, float((weights * excess**2).sum())


def _fill_empty(
    assigned: npt.NDArray[np.int64], order: npt.NDArray[np.int64], splits: int
) -> npt.NDArray[np.int64]:
    """Give each split without a unit the smallest one of the split with most units."""
    for split in range(splits):
        held = np.bincount(assigned, minlength=splits)
        if held[split] == 0:
            donor = held.argmax()
            smallest = order[assigned[order] == donor][-1]
            assigned[smallest] = split
    return assigned


def balance_of(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return one row a label: how evenly the splits share it.

    Columns: `label`; `positives_<split>`; `prevalence_<split>` (positives / rows);
    `coefficient_of_variation` (population standard deviation / mean of the three prevalences, null
    where the label has no positive) and `verdict` (excellent | moderate | poor | no positives).
    """
    positives = {split: positives_of(part).sum(axis=0) for split, part in parts.items()}
    prevalence = {split: positives[split] / part.height for split, part in parts.items()}
    each = np.stack(list(prevalence.values()))
    mean = each.mean(axis=0)
    variation = [
        float(deviation / average) if average > 0 else None
        for deviation, average in zip(each.std(axis=0), mean, strict=True)
    ]
    return pl.DataFrame(
        {
            "label": list(LABELS),
            **{f"positives_{split}": counts for split, counts in positives.items()},
            **{f"prevalence_{split}": values for split, values in prevalence.items()},
            "coefficient_of_variation": pl.Series(variation, dtype=pl.Float64),
            "verdict": [verdict(value) for value in variation],
        }
    )


def verdict(variation: float | None) -> str:
    """Return the published word for a coefficient of variation (a ratio, not percent)."""
    if variation is None:
        return "no positives"
    if variation < EXCELLENT:
        return "excellent"
    return "moderate" if variation < MODERATE else "poor"


def leakage(parts: Mapping[str, pl.DataFrame], keys: tuple[str, ...]) -> dict[str, int]:
    """Return how many units named by `keys` are in both of each pair of splits."""
    units = {split: part.select(keys).unique() for split, part in parts.items()}
    return {
        f"{one}_{other}": units[one].join(units[other], on=keys, how="semi").height
        for one, other in combinations(units, 2)
    }


def account_of(
    parts: Mapping[str, pl.DataFrame],
    unit: Unit,
    shares: Mapping[str, float],
    seed: int,
    balanced: pl.DataFrame,
) -> dict[str, Any]:
    """Return sizes, leakage and the worst balance of a division, as plain values."""
    rows = {split: part.height for split, part in parts.items()}
    in_all = sum(rows.values())
    return {
        "unit": unit,
        "seed": seed,
        "rows_in": in_all,
        "rows": rows,
        "shares_wanted": {split: shares[split] for split in SPLITS},
        "shares": {split: height / in_all for split, height in rows.items()},
        "subjects": {s: part["subject_id"].n_unique() for s, part in parts.items()},
        "studies": {s: part.select(KEYS["study"]).n_unique() for s, part in parts.items()},
        "leakage": {
            "subjects": leakage(parts, KEYS["subject"]),
            "studies": leakage(parts, KEYS["study"]),
            "images": leakage(parts, KEYS["image"]),
        },
        "coefficient_of_variation_max": balanced["coefficient_of_variation"].max(),
        "coefficient_of_variation_median": balanced["coefficient_of_variation"].median(),
        "verdicts": {
            word: int((balanced["verdict"] == word).sum())
            for word in ("excellent", "moderate", "poor", "no positives")
        },
    }
