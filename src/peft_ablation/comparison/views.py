"""Arms at equal epochs, optimizer steps, seconds and joules, and what the reference's loss costs.

What can be compared along training is what `history.csv` holds at the end of every epoch: the
validation loss, and what a task counts beside it. Test scores exist of the chosen checkpoint alone.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.artifacts import write_table
from peft_ablation.comparison.pages import NONE, Block, Heading, Paragraph, Table, plain
from peft_ablation.metrics.metric import Array

log = logging.getLogger(__name__)

LOSS: Final = "val_loss"
VIEWS: Final = {
    "epochs": "epochs",
    "steps": "optimizer steps",
    "seconds": "s of training",
    "energy": "J",
}
"""What is held equal, with its unit. `seconds` are wall seconds of optimizer steps, as the
comparison's `train_seconds`; like `energy` they measure the machine, and so do all columns that
begin with these words."""
MISSING: Final = "-"
"""A seed without a value in a `_by_seed` column."""


@dataclass(frozen=True)
class Curve:
    """One run by epoch: what was spent in all, and the best that a measure had reached."""

    arm: str
    seed: int
    spent: Mapping[str, Array]
    """View → (E,), ascending; NaN where the device does not tell."""
    best: Mapping[str, Array]
    """Measure → (E,), its best value so far: that of the checkpoint one would keep."""

    def within(self, view: str, budget: float, measure: str) -> float | None:
        """Return the best of the epochs that end within a budget; None where none does."""
        done = int((self.spent[view] <= budget).sum())
        return float(self.best[measure][done - 1]) if done else None


@dataclass(frozen=True)
class MeanCurve:
    """The mean over an arm's runs; one that stopped early keeps its best, and spends no more."""

    spent: Mapping[str, Array]
    best: Mapping[str, Array]


def read_curves(histories: Sequence[str | Path], runs: Sequence[tuple[str, int]]) -> list[Curve]:
    """Return the curve of each run (arm, seed) that was trained, in order."""
    found = []
    for path, (arm, seed) in zip(histories, runs, strict=True):
        table = pl.read_csv(path)
        if not table.height:
            continue
        counted = [name for name in table.columns if name.startswith("val_") and name != LOSS]

        def column(name: str, table: pl.DataFrame = table) -> Array:
            return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

        found.append(
            Curve(
                arm,
                int(seed),
                {
                    "epochs": np.arange(1.0, table.height + 1),
                    "steps": column("steps").cumsum(),
                    "seconds": column("seconds_training").cumsum(),
                    "energy": column("energy_joules").cumsum(),
                },
                {
                    LOSS: np.minimum.accumulate(column(LOSS)),
                    **{name: np.maximum.accumulate(column(name)) for name in counted},
                },
            )
        )
    return found


def mean_curve(curves: Sequence[Curve]) -> MeanCurve:
    """Return the mean over the runs of one arm, by epoch of the longest."""
    epochs = max(len(curve.spent["epochs"]) for curve in curves)

    def mean(values: Sequence[Array]) -> Array:
        held = [np.pad(value, (0, epochs - len(value)), mode="edge") for value in values]
        return np.asarray(np.mean(held, axis=0))

    return MeanCurve(
        {view: mean([curve.spent[view] for curve in curves]) for view in VIEWS},
        {name: mean([curve.best[name] for curve in curves]) for name in curves[0].best},
    )


def compare_views(
    histories: Sequence[str | Path],
    *,
    runs: Sequence[tuple[str, int]],
    reference: str | None,
    table: str | Path,
) -> None:
    """Write `views.csv`: a row an arm and measure; `histories` are in the order of `runs`."""
    rows = views(read_curves(histories, runs), reference)
    write_table(pl.DataFrame(rows, infer_schema_length=None), table)
    log.info("compared runs at equal budgets: %d rows", len(rows))


def views(curves: Sequence[Curve], reference: str | None) -> list[dict[str, Any]]:
    """Return the rows of `views.csv`.

    `<view>_budget` is the largest that every run has reached, `<view>_best` the mean over seeds of
    the best within it. `<view>_to_reference` is what the mean of an arm's runs had spent when the
    mean of their best reached `reference_level`, the reference arm's own in the end; the columns
    `_by_seed` say both of each run. Losses are known at ends of epochs, so what is spent to reach
    a level may be up to an epoch less. An empty cell: never, or not told by the device.
    """
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    of = {arm: [curve for curve in curves if curve.arm == arm] for arm in arms}
    budgets = {view: _budget(curves, view) for view in VIEWS} if curves else {}
    means = {arm: mean_curve(own) for arm, own in of.items()}
    rows = []
    for measure in dict.fromkeys(name for mean in means.values() for name in mean.best):
        level = _final(means.get(str(reference)), measure)
        for arm, own in of.items():
            if measure not in means[arm].best:
                continue
            row: dict[str, Any] = {
                "measure": measure,
                "arm": arm,
                "seeds": len(own),
                "final": _final(means[arm], measure),
                "reference_arm": reference,
                "reference_level": level,
            }
            for view, budget in budgets.items():
                within = [
                    None if budget is None else curve.within(view, budget, measure) for curve in own
                ]
                reached = [_reached(curve, view, measure, level) for curve in own]
                row |= {
                    f"{view}_budget": budget,
                    f"{view}_best": None if None in within else float(np.mean(within)),  # type: ignore[arg-type]
                    f"{view}_best_by_seed": _by_seed(within),
                    f"{view}_to_reference": _reached(means[arm], view, measure, level),
                    f"{view}_to_reference_by_seed": _by_seed(reached),
                }
            rows.append(row)
    return rows


def _budget(curves: Sequence[Curve], view: str) -> float | None:
    """Return the largest amount that every run has spent; None where a device does not tell."""
    least = float(np.min([curve.spent[view][-1] for curve in curves]))
    return None if np.isnan(least) else least


def _final(mean: MeanCurve | None, measure: str) -> float | None:
    return float(mean.best[measure][-1]) if mean and measure in mean.best else None


def _reached(
    curve: Curve | MeanCurve, view: str, measure: str, level: float | None
) -> float | None:
    """Return what was spent at the end of the first epoch whose best is no worse than `level`."""
    if level is None:
        return None
    best = curve.best[measure]
    there = np.flatnonzero(best <= level if measure == LOSS else best >= level)
    spent = float(curve.spent[view][there[0]]) if there.size else np.nan
    return None if np.isnan(spent) else spent


def _by_seed(values: Sequence[float | None]) -> str:
    return " ".join(MISSING if value is None else repr(value) for value in values)


def views_blocks(rows: Sequence[Mapping[str, Any]], device: str) -> list[Block]:
    """Return the page's section on equal budgets, from the rows of `views.csv`."""
    if not rows:
        return []
    told = [view for view in VIEWS if rows[0][f"{view}_budget"] is not None]
    an_epoch = _steps_an_epoch(rows)
    if an_epoch is not None:
        told.remove("steps")
    blocks: list[Block] = [Heading("At equal budgets")]
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = [row for row in rows if row["measure"] == measure]
        name = "validation loss" if measure == LOSS else _words(measure)
        reference, level = own[0]["reference_arm"], own[0]["reference_level"]
        reached = told if level is not None else []
        budgets = {view: _amount(view, own[0][f"{view}_budget"]) for view in told}
        header = [
            "arm",
            *(f"{name} after {budgets[view]} {VIEWS[view]}" for view in told),
            *(f"{VIEWS[view]} to {reference}'s {level:.4f}" for view in reached),
        ]
        cells = [
            [
                row["arm"],
                *(plain(row[f"{view}_best"], 4) for view in told),
                *(_needed(row, view, own, reference) for view in reached),
            ]
            for row in own
        ]
        blocks.append(Table(header, cells))
    said = [
        "Budgets are the largest that every run has reached; a run's best at the ends of epochs "
        "within it, mean over seeds."
    ]
    if rows[0]["reference_level"] is not None:
        said.append(
            "On the right, what an arm's runs had spent on average when their mean best was no "
            "worse than the reference arm's in the end, and in brackets this over what the "
            f"reference itself needed; {NONE}: never, in the epochs it had."
        )
    said.append(
        f"Seconds are wall time of optimizer steps on {device}, without evaluation, saving, "
        "waiting and tuning."
    )
    if an_epoch is not None:
        said.append(
            f"Every run takes {an_epoch:g} optimizer steps an epoch: equal epochs are equal steps."
        )
    if "energy" not in told:
        said.append("This device does not tell the energy it takes.")
    return [
        *blocks,
        Paragraph(" ".join(said)),
        Paragraph(
            "These are validation losses, not test scores: training knows them at the end of every "
            "epoch, while the test split is scored for the chosen checkpoint alone (to score every "
            "epoch would cost as many predictions as epochs, and would look at the test split "
            "again and again). A lower loss need not be a better score. Learning rates follow the "
            "schedule of the whole run, so that a run looked at before its end may be worse than "
            "one that was planned as short; and losses of arms whose bases divide texts into "
            "other tokens are not comparable."
        ),
    ]


def _steps_an_epoch(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return how many there are where equal epochs are equal steps in all that the rows say."""
    an_epoch: float = rows[0]["steps_budget"] / rows[0]["epochs_budget"]
    for row in rows:
        epochs, steps = row["epochs_to_reference"], row["steps_to_reference"]
        same = epochs is None or steps == epochs * an_epoch
        if not same or row["epochs_best_by_seed"] != row["steps_best_by_seed"]:
            return None
    return an_epoch


def _needed(
    row: Mapping[str, Any], view: str, rows: Sequence[Mapping[str, Any]], reference: str
) -> str:
    spent = row[f"{view}_to_reference"]
    if spent is None:
        return NONE
    by_arm = {other["arm"]: other[f"{view}_to_reference"] for other in rows}
    ratio = "" if row["arm"] == reference else f" ({spent / by_arm[reference]:.2f} x)"
    return f"{_amount(view, spent)}{ratio}"


def _amount(view: str, value: float) -> str:
    text = plain(value, 1)
    return text if view == "seconds" else text.removesuffix(".0")


def _words(measure: str) -> str:
    return f"validation {measure.removeprefix('val_').replace('_', ' ')}"
