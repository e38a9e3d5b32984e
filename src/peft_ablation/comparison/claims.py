"""What a published protocol would have claimed of each arm, beside what is true of it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.artifacts import write_table, write_text
from peft_ablation.as_published import AsPublished
from peft_ablation.comparison.pages import (
    NONE,
    Block,
    Heading,
    Items,
    Paragraph,
    Table,
    markdown,
    plain,
    with_interval,
)
from peft_ablation.comparison.runs import mean
from peft_ablation.comparison.words import Words, read_rows

Row = Mapping[str, Any]

LOSS: Final = "test_loss"
COSTS: Final = {"peak_memory_mb": ("memory, MB", 0), "train_seconds": ("training, s", 1)}
"""Title and decimals of what is claimed besides metrics."""


def as_published_columns(setting: Mapping[str, Any]) -> dict[str, str]:
    """Return the column of `comparison.csv` that names an arm's defects; none without any."""
    told = defects_of(setting)
    return {"as_published": " ".join(told)} if told else {}


def defects_of(setting: Mapping[str, Any]) -> dict[str, str]:
    """Return one sentence of warning by the name of each defect of an arm (plain values)."""
    return AsPublished.model_validate(setting.get("as_published") or {}).told


def as_published_blocks(rows: Sequence[Row]) -> list[Block]:
    """Return the warning of the comparison page; nothing where no arm has a defect."""
    named = {row["arm"]: row["as_published"].split() for row in rows if row.get("as_published")}
    if not named:
        return []
    every = AsPublished.model_fields
    return [
        Heading("As published"),
        Paragraph(
            "Arms here were trained, or would have been reported, with the defects of a published "
            "protocol on purpose. Their scores show what the defects do, and are no ground to "
            "choose a method by. The scores of this page are measured without them."
        ),
        Table(
            ("arm", "defects"), [[arm, ", ".join(map(said, told))] for arm, told in named.items()]
        ),
        Items(
            [
                f"{said(name).capitalize()}: {' '.join((field.description or '').split())}"
                for name, field in every.items()
                if any(name in told for told in named.values())
            ]
        ),
    ]


def said(defect: str) -> str:
    """Return a defect's name in words."""
    return defect.replace("_", " ")


def compare_claims(
    *,
    claims: str | Path,
    comparison: str | Path,
    words: str | Path,
    arms: Mapping[str, Mapping[str, Any]],
    study: str,
    confidence: float,
    output: str | Path,
    page: str | Path,
) -> None:
    """Write what each arm claims beside what is true: a row an arm and measure, and a page.

    `claims` is what `peft_ablation.scoring.claims` writes. Claims are means over seeds; the truth
    has the interval of the comparison.
    """
    told = Words.read(words)
    found = pl.read_csv(claims, infer_schema_length=None)
    true = {row["arm"]: row for row in read_rows(comparison)}
    rows = []
    for arm in in_order(list(arms)):
        for measure in found["measure"].unique(maintain_order=True):
            own = found.filter((pl.col("arm") == arm) & (pl.col("measure") == measure))
            rows.append(
                {
                    "arm": arm,
                    "counterpart": counterpart(arm, list(arms)),
                    "as_published": " ".join(defects_of(arms[arm])),
                    "learning_rate": true[arm]["learning_rate"],
                    "measure": measure,
                    "claimed": mean(own["claimed"].to_list()),
                    "true": true[arm][measure],
                    "true_low": true[arm].get(f"{measure}_low"),
                    "true_high": true[arm].get(f"{measure}_high"),
                    "uniform": own["uniform"].max(),
                }
            )
    write_table(pl.DataFrame(rows, infer_schema_length=None), output)
    write_text(page, markdown(claims_page(rows, told, study=study, confidence=confidence)))


def counterpart(arm: str, arms: Sequence[str]) -> str | None:
    """Return the arm that this one is named after: `fft` of `fft_padding`; None where none is."""
    named = [other for other in arms if arm.startswith(f"{other}_")]
    return max(named, key=len, default=None)


def in_order(arms: Sequence[str]) -> list[str]:
    """Return the arms, each that is named after another one behind it."""
    places = {arm: place for place, arm in enumerate(arms)}
    return sorted(arms, key=lambda arm: (places[counterpart(arm, arms) or arm], places[arm]))


def claims_page(rows: Sequence[Row], words: Words, *, study: str, confidence: float) -> list[Block]:
    """Return the page of claims; `rows` are those of `compare_claims`."""
    by_arm: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["measure"]] = row
    measures = list(next(iter(by_arm.values())))
    shown = [name for name in (LOSS, *words.shown, *COSTS) if name in measures]
    uniform = next((row["uniform"] for row in rows if row["uniform"] is not None), None)
    told = [_in_words(arm, by_arm, words, uniform) for arm in by_arm]
    guess = (
        ""
        if uniform is None
        else f" A uniform guess over the {round(math.exp(uniform)):,} words of the vocabulary has "
        f"a loss of ln {round(math.exp(uniform)):,} = {uniform:.3f}."
    )
    return [
        Heading(f"Claimed and true, study {study}", 1),
        Paragraph(
            "Claimed is what the arm's own protocol, with its defects, would have reported; true "
            f"is what the same trained models score without any, with the {100 * confidence:g} % "
            f"interval over {words.group}s and seeds. Means over seeds.{guess}"
        ),
        Table(
            ("arm", *(f"{_title(name, words)}, {what}" for name in shown for what in KINDS)),
            [
                [arm, *(cell for name in shown for cell in _cells(own[name], words))]
                for arm, own in by_arm.items()
            ],
        ),
        Heading("In words"),
        Items([line for line in told if line]),
        Heading("What the arms do wrong"),
        Table(
            ("arm", "learning rate", "defects"),
            [
                [
                    arm,
                    f"{own[LOSS]['learning_rate']:g}",
                    ", ".join(map(said, own[LOSS]["as_published"].split())) or NONE,
                ]
                for arm, own in by_arm.items()
            ],
        ),
        Items(
            [
                f"{said(name).capitalize()}: {' '.join((field.description or '').split())}"
                for name, field in AsPublished.model_fields.items()
                if any(name in row["as_published"].split() for row in rows)
            ]
        ),
    ]


KINDS: Final = ("claimed", "true")


def _title(measure: str, words: Words) -> str:
    return COSTS[measure][0] if measure in COSTS else words.title(measure)


def _digits(measure: str, words: Words) -> int:
    return COSTS[measure][1] if measure in COSTS else int(words.metrics[measure]["digits"])


def _cells(row: Row, words: Words) -> list[str]:
    digits = _digits(row["measure"], words)
    return [plain(row["claimed"], digits), with_interval(row, "true", digits)]


def _in_words(
    arm: str, by_arm: Mapping[str, Mapping[str, Row]], words: Words, uniform: float | None
) -> str:
    """Say of an arm what it claims, what is true, and how far it is from its counterpart."""
    own, other = by_arm[arm], by_arm[arm][LOSS]["counterpart"]
    parts = []
    loss = own[LOSS]
    if loss["claimed"] is not None and not math.isclose(loss["claimed"], loss["true"]):
        claim = f"claims a loss of {loss['claimed']:.3f} where {loss['true']:.3f} is true"
        if uniform is not None and loss["claimed"] > uniform:
            claim += f", worse than a uniform guess ({uniform:.3f})"
        parts.append(claim)
    for name in words.shown:
        row, digits = own[name], _digits(name, words)
        if row["true"] is None:
            continue
        text = f"{words.title(name)} {with_interval(row, 'true', digits)}"
        if row["claimed"] is not None and not math.isclose(row["claimed"], row["true"]):
            text += f", claimed {row['claimed']:.{digits}f}"
            if row["true_low"] is not None and not (
                row["true_low"] <= row["claimed"] <= row["true_high"]
            ):
                text += ", outside of its interval"
        theirs = by_arm[other][name]["true"] if other else None
        if theirs is not None:
            text += f", {_against(row['true'] - theirs, digits)} {other}"
        parts.append(text)
    return f"{arm}: {'; '.join(parts)}." if parts else ""


def _against(difference: float, digits: int) -> str:
    size = f"{abs(difference):.{digits}f}"
    if float(size) == 0:
        return "as"
    return f"{size} {'above' if difference > 0 else 'below'}"
