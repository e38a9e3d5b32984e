"""Training, validation and test: whole units divided, classes or labels balanced.

Reads of the examples table: `split` where the source gives one, the columns that name a unit, and
`balance` (see `peft_ablation.data.examples`).
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.data.examples import SPLITS, TEXTS
from peft_ablation.errors import InputError

log = logging.getLogger(__name__)

Units = Mapping[str, Sequence[str]]
"""Names of units and the columns that name one of them."""

EXCELLENT: Final = 0.02
MODERATE: Final = 0.05
"""Coefficients of variation below which a label's balance is excellent, or moderate; else poor.
The published study's verdicts."""

_REFINEMENTS: Final = 4
_TRIES: Final = 50
_TRIED_UNITS: Final = 20_000
_ONE_BY_ONE: Final = 100_000
"""Most units that are assigned one by one; of more, those alike are dealt out together."""


def split_table(
    table: str | Path,
    *,
    unit: str,
    units: Units,
    given: str,
    shares: Mapping[str, float],
    seed: int,
    outputs: Mapping[str, str | Path],
    csv: Mapping[str, str | Path],
    balance: str | Path,
    account: str | Path,
) -> None:
    """Divide the rows of `table` and write each split, the balance of labels and an account.

    `shares`, `outputs` and `csv` are by split (`train`, `val`, `test`). `unit` is one of `units`.
    Splits that the source gives are kept, and those it lacks are cut from its training rows by
    their shares; with `given` as `merge` all is divided anew. Rows keep the order of `table`.
    Raises `InputError` where there are fewer units than splits to make.
    """
    rows = pl.read_parquet(table)
    wanted = {split: shares[split] for split in SPLITS}
    assigned = np.full(rows.height, -1)
    if given == "keep" and rows["split"].null_count() < rows.height:
        if rows["split"].null_count():
            raise InputError(
                f"{table}: {rows['split'].null_count()} of {rows.height} rows have no split, "
                "expected one for all or none; set split.given: merge to divide all anew"
            )
        assigned = np.array([SPLITS.index(split) for split in rows["split"]])
        lacking = [split for split in SPLITS[1:] if split not in set(rows["split"])]
        if not (rows["split"] == "train").any():
            raise InputError(f"{table}: the source gives no training split; set split.given: merge")
        wanted = {split: shares[split] for split in ("train", *lacking)}
        if lacking:
            assigned[assigned == 0] = -1
    if (assigned < 0).any():
        open_rows = rows.filter(pl.Series(assigned < 0))
        names = list(wanted)
        divided = _divide(open_rows, table, unit, units, wanted, seed)
        assigned[assigned < 0] = np.array([SPLITS.index(name) for name in names])[divided]
    parts = {split: rows.filter(pl.Series(assigned == k)) for k, split in enumerate(SPLITS)}
    _check_classes(parts, table)
    balanced = balance_of(parts)
    write_table(balanced, balance)
    write_json(account, account_of(parts, unit, units, shares, seed, balanced))
    for split, part in parts.items():
        write_table(part, outputs[split])
        # A list has no place in a CSV, and these columns only say again what others do.
        write_table(part.drop([c for c in part.columns if part[c].dtype == pl.List]), csv[split])
        log.info("%s: %d rows", split, part.height)


def _divide(
    rows: pl.DataFrame,
    table: str | Path,
    unit: str,
    units: Units,
    wanted: Mapping[str, float],
    seed: int,
) -> npt.NDArray[np.int64]:
    """Return int64 (N,), indices into `wanted`, whose shares are made to sum to 1."""
    found = rows.select(units[unit]).n_unique()
    if found < len(wanted):
        raise InputError(
            f"{table}: {found} {unit}{'s' * (found != 1)} in {rows.height} rows, expected at least "
            f"{len(wanted)}, one a split; use more data"
        )
    shares = np.array(list(wanted.values()))
    # As published, where rows stand alone and the source says what that study balanced.
    if unit == list(units)[-1] and "mentioned" in rows.columns and len(wanted) == len(SPLITS):
        return split_images(rows, shares / shares.sum(), seed)
    return split_units(rows, units[unit], shares / shares.sum(), seed)


def _check_classes(parts: Mapping[str, pl.DataFrame], table: str | Path) -> None:
    """Refuse an empty split, a single class, and a class that a split lacks."""
    if any(part.is_empty() for part in parts.values()):
        empty = next(split for split, part in parts.items() if part.is_empty())
        raise InputError(f"{table}: split {empty} is empty; use more data or other shares")
    if parts["train"].schema.get("label") != pl.String:
        return
    classes = sorted({label for part in parts.values() for label in part["label"]})
    if len(classes) == 1:
        raise InputError(
            f"{table}: all rows are of one class, {classes[0]!r}, expected two or more"
        )
    for split, part in parts.items():
        lacking = sorted(set(classes) - set(part["label"]))
        if lacking:
            raise InputError(
                f"{table}: class {lacking[0]!r} is missing from split {split} "
                f"({len(lacking)} of {len(classes)} classes are); give it more examples, leave the "
                "class out, or set split.given: merge"
            )


def labels_of(rows: pl.DataFrame, column: str = "balance") -> list[str]:
    """Return the labels of a list column: those of its Enum, in order, else those found, sorted."""
    inner = rows.schema[column].inner  # type: ignore[attr-defined]
    if isinstance(inner, pl.Enum):
        return inner.categories.to_list()
    return sorted({str(label) for label in rows[column].explode().drop_nulls()})


def positives_of(
    rows: pl.DataFrame, labels: Sequence[str], column: str = "balance"
) -> npt.NDArray[np.bool_]:
    """Return bool (N, len(labels)): which labels the list column has."""
    positives = np.zeros((rows.height, len(labels)), dtype=np.bool_)
    found = _label_places(rows, labels, column)
    positives[found["row"].to_numpy(), found["label"].to_numpy()] = True
    return positives


def _label_places(rows: pl.DataFrame, labels: Sequence[str], column: str) -> pl.DataFrame:
    """Return `row` and the place of the `label` for each label of a list column."""
    each = rows.select(pl.col(column).list.unique()).with_row_index("row")
    found = each.explode(column).drop_nulls()
    places = found[column].cast(pl.String).cast(pl.Enum(labels)).to_physical().cast(pl.Int64)
    return pl.DataFrame({"row": found["row"].cast(pl.Int64), "label": places})


def split_images(
    rows: pl.DataFrame, shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Divide images as published; returns int64 (N,), indices into `SPLITS`.

    `MultilabelStratifiedShuffleSplit` (Sechidis et al. 2011, iterative-stratification) takes test
    from all rows and then val from the rest, each with `seed`. It casts labels to bool, so -1
    counts as a positive here, unlike everywhere else: kept as it was published. Reads the list
    column `mentioned`.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    labels = positives_of(rows, labels_of(rows, "mentioned"), "mentioned")
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
    rows: pl.DataFrame, columns: Sequence[str], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Divide whole units, named by `columns`; returns int64 (N,), indices into `shares`.

    Balances the labels of `balance` and the number of rows, see `assign_units`.
    """
    rank = pl.struct(list(columns)).rank("dense").cast(pl.Int64)
    ids: npt.NDArray[np.int64] = rows.select(rank - 1).to_series().to_numpy()
    if ids.max() >= _ONE_BY_ONE:
        return _deal_units(rows, ids, shares, seed)[ids]
    matrix = np.column_stack([np.ones(rows.height), positives_of(rows, labels_of(rows))])
    counts = np.stack([np.bincount(ids, weights=column) for column in matrix.T], axis=1)
    of_units = assign_units(counts.astype(np.float64, copy=False), shares, seed)
    return of_units[ids]


def _deal_units(
    rows: pl.DataFrame, ids: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Divide a great many units; returns int64 (U,), indices into `shares`.

    `ids` (N,) is each row's unit. Of units alike in size and labels each split gets its share,
    rounded down, drawn from `seed`; the few that are left over are assigned one by one, as by
    `assign_units`.
    """
    labels = labels_of(rows)
    sizes = np.bincount(ids)
    found = _label_places(rows, labels, "balance")
    of_units = pl.DataFrame({"unit": ids[found["row"].to_numpy()], "label": found["label"]})
    sets = of_units.sort("unit", "label").group_by("unit", maintain_order=True).agg("label")
    words = np.full(len(sizes), "", dtype=object)
    words[sets["unit"].to_numpy()] = sets["label"].cast(pl.List(pl.String)).list.join(" ").to_list()
    kinds = pl.DataFrame({"size": sizes, "labels": pl.Series(words, dtype=pl.String)})
    kind = kinds.select(pl.struct("size", "labels").rank("dense").cast(pl.Int64) - 1)
    kind_of: npt.NDArray[np.int64] = kind.to_series().to_numpy()
    # What a unit of each kind counts: its rows, and its rows with each label.
    _, first = np.unique(kind_of, return_index=True)
    counts = np.zeros((len(first), 1 + len(labels)))
    counts[:, 0] = sizes[first]
    for place, text in enumerate(words[first]):
        np.add.at(counts[place, 1:], [int(label) for label in text.split()], 1)
    random = np.random.default_rng(seed)
    shuffle = random.permutation(len(sizes))
    by_kind = shuffle[np.argsort(kind_of[shuffle], kind="stable")]
    alike = np.bincount(kind_of)
    whole = np.floor(np.outer(alike, shares) + 1e-9).astype(np.int64)
    place_in_kind = np.arange(len(sizes)) - np.repeat(np.cumsum(alike) - alike, alike)
    ends = np.cumsum(whole, axis=1)[kind_of[by_kind]]
    assigned = np.empty(len(sizes), dtype=np.int64)
    assigned[by_kind] = (place_in_kind[:, None] >= ends).sum(axis=1)
    left = by_kind[assigned[by_kind] == len(shares)]
    held = whole.T @ counts
    total = alike @ counts
    order = np.argsort(-sizes[left], kind="stable")
    assigned[left], _ = _assign_in_order(
        counts[kind_of[left]],
        shares,
        _weights(np.outer(shares, total)),
        order,
        held - np.outer(shares, held.sum(axis=0)),
    )
    return _fill_empty(assigned, np.argsort(-sizes, kind="stable"), len(shares))


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
    weights = _weights(np.outer(shares, counts.sum(axis=0)))
    random = np.random.default_rng(seed)
    shuffle = random.permutation(len(counts))
    order = shuffle[np.argsort(-counts[shuffle].sum(axis=1), kind="stable")]
    best, least = _assign_in_order(counts, shares, weights, order)
    for _ in range(min(_TRIES, _TRIED_UNITS // len(counts)) - 1):
        tried, cost = _assign_in_order(counts, shares, weights, random.permutation(len(counts)))
        if cost < least:
            best, least = tried, cost
    return _fill_empty(best, order, len(shares))


def _weights(wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what squared deviations from `wanted` (K, C) weigh; nothing where none is wanted."""
    weights = np.zeros_like(wanted)
    np.divide(1, wanted**2, out=weights, where=wanted > 0)
    return weights


def _assign_in_order(
    counts: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    held: npt.NDArray[np.float64] | None = None,
) -> tuple[npt.NDArray[np.int64], float]:
    """Assign greedily in `order`, refine, and return the splits (U,) and the weighted sum.

    `held` (K, C) is what splits hold already, beyond their shares of it.
    """
    assigned = np.zeros(len(counts), dtype=np.int64)
    # What each split holds beyond its share of all that is assigned.
    excess = np.zeros_like(weights) if held is None else held.copy()
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
    labels = labels_of(pl.concat(part.select("balance") for part in parts.values()))
    positives = {split: _positives(part, labels) for split, part in parts.items()}
    prevalence = {split: positives[split] / part.height for split, part in parts.items()}
    each = np.stack(list(prevalence.values()))
    mean = each.mean(axis=0)
    variation = [
        float(deviation / average) if average > 0 else None
        for deviation, average in zip(each.std(axis=0), mean, strict=True)
    ]
    return pl.DataFrame(
        {
            "label": pl.Series(labels, dtype=pl.String),
            **{f"positives_{split}": counts for split, counts in positives.items()},
            **{f"prevalence_{split}": values for split, values in prevalence.items()},
            "coefficient_of_variation": pl.Series(variation, dtype=pl.Float64),
            "verdict": pl.Series([verdict(value) for value in variation], dtype=pl.String),
        }
    )


def _positives(rows: pl.DataFrame, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return int64 (len(labels),): how many rows have each label."""
    found = _label_places(rows, labels, "balance")
    return np.bincount(found["label"].to_numpy(), minlength=len(labels))


def verdict(variation: float | None) -> str:
    """Return the published word for a coefficient of variation (a ratio, not percent)."""
    if variation is None:
        return "no positives"
    if variation < EXCELLENT:
        return "excellent"
    return "moderate" if variation < MODERATE else "poor"


def leakage(parts: Mapping[str, pl.DataFrame], keys: Sequence[str]) -> dict[str, int]:
    """Return how many units named by `keys` are in both of each pair of splits."""
    units = {split: part.select(keys).unique() for split, part in parts.items()}
    return {
        f"{one}_{other}": units[one].join(units[other], on=keys, how="semi").height
        for one, other in combinations(units, 2)
    }


def equal_texts(parts: Mapping[str, pl.DataFrame]) -> dict[str, dict[str, int]]:
    """Return how many distinct texts are in both of each pair of splits, by column.

    Texts are alike where they differ in nothing but case and white space. Of two texts a row, both
    together are counted as well (`text, text_pair`). Nothing for a table without texts.
    """
    columns = [column for column in TEXTS if column in parts["train"].columns]
    plain = pl.col(columns).str.strip_chars().str.replace_all(r"\s+", " ").str.to_lowercase()
    # Numbers in place of texts: a million texts would be held three times over.
    texts = {split: part.select(plain.hash()) for split, part in parts.items()} if columns else {}
    keys = [(column,) for column in columns] + [tuple(columns)] * (len(columns) > 1)
    return {", ".join(key): leakage(texts, key) for key in keys}


def account_of(
    parts: Mapping[str, pl.DataFrame],
    unit: str,
    units: Units,
    shares: Mapping[str, float],
    seed: int,
    balanced: pl.DataFrame,
) -> dict[str, Any]:
    """Return sizes, leakage and the worst balance of a division, as plain values."""
    alike = equal_texts(parts)
    rows = {split: part.height for split, part in parts.items()}
    in_all = sum(rows.values())
    return {
        "unit": unit,
        "seed": seed,
        "rows_in": in_all,
        "rows": rows,
        "shares_wanted": {split: shares[split] for split in SPLITS},
        "shares": {split: height / in_all for split, height in rows.items()},
        "units": {
            name: {split: part.select(columns).n_unique() for split, part in parts.items()}
            for name, columns in units.items()
        },
        "leakage": {name: leakage(parts, columns) for name, columns in units.items()},
        **({"equal_texts": alike} if alike else {}),
        "coefficient_of_variation_max": balanced["coefficient_of_variation"].max(),
        "coefficient_of_variation_median": balanced["coefficient_of_variation"].median(),
        "verdicts": {
            word: int((balanced["verdict"] == word).sum())
            for word in ("excellent", "moderate", "poor", "no positives")
        },
    }
