"""Grades of answers: the sheet that a person or a judge model fills, read back and counted.

Whoever sees two answers side by side may prefer the one that comes first. So the sheet shows all
answers to a question twice, in an order drawn by a seed and in its reverse: each pair of answers is
seen both ways round. It names no model; the key, a file apart, does.
"""

import csv
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import binomtest

from peft_ablation.artifacts import sha256_json, write_table
from peft_ablation.comparison.captions import counted
from peft_ablation.comparison.decision import holm
from peft_ablation.comparison.pages import Block, Heading, Items, Paragraph, Table, p_cell
from peft_ablation.errors import InputError, near_miss
from peft_ablation.scoring.answer_table import COLUMNS as ANSWERS

log = logging.getLogger(__name__)

ORDERS: Final = (1, 2)
"""The order that is drawn, and its reverse."""

SHEET: Final = {
    "id": pl.String, "question": pl.Int64, "text": pl.String, "order": pl.Int64,
    "place": pl.Int64, "answer": pl.String, "grade": pl.String, "justification": pl.String,
}  # fmt: skip
"""Columns of grading_sheet.csv; `place` is that of the answer among those of its question and
order, `grade` and `justification` are to be filled."""

KEY: Final = {
    "id": pl.String, "question": pl.Int64, "arm": pl.String, "seed": pl.Int64,
    "order": pl.Int64, "place": pl.Int64,
}  # fmt: skip
"""Columns of grading_key.csv: whose answer stands where."""

COLUMNS: Final = {
    "question": pl.Int64, "arm": pl.String, "seed": pl.Int64, "order": pl.Int64,
    "place": pl.Int64, "grade": pl.Float64, "justification": pl.String,
}  # fmt: skip
"""Columns of grades.csv, which holds every single grade."""

OF_SHEET: Final = ("id", "grade", "justification")
OF_ONES_OWN: Final = ("question", "arm", "seed", "order", "grade", "justification")
"""Columns that a filled sheet, or a table of one's own, must have."""

LONGEST_SHOWN: Final = 20
"""A longer cell is no grade or name, but a text that a message must not repeat."""

Model = tuple[str, int | None]
"""An arm, untouched base or instruct model, and its seed if it has one."""


def model_name(model: Model) -> str:
    """Return what a heading calls a model."""
    arm, seed = model
    return arm if seed is None else f"{arm} (seed {seed})"


# -- the sheet -------------------------------------------------------------------------------------


def write_grading_sheet(
    answers: str | Path, *, seed: int, sheet: str | Path, key: str | Path
) -> None:
    """Write the sheet to be graded and its key.

    `answers` is what `peft_ablation.scoring.questions` writes. An id tells of which answer it is,
    so that a sheet of other answers is refused later, but not of which model.
    """
    table = pl.read_csv(answers, schema=ANSWERS)
    rows: list[dict[str, Any]] = []
    for number in table["question"].unique(maintain_order=True):
        asked = table.filter(pl.col("question") == number)
        drawn = np.random.default_rng([seed, number]).permutation(asked.height)
        for order, places in zip(ORDERS, (drawn, drawn[::-1]), strict=True):
            for place, row in enumerate(asked[places].iter_rows(named=True), 1):
                answer = row["answer"] or ""
                told = sha256_json([row["text"], order, place, answer])[:8]
                name = f"{number}-{order}-{place}-{told}"
                rows.append({**row, "id": name, "order": order, "place": place, "answer": answer})
    # All questions in one order before the first in the other.
    rows.sort(key=lambda row: row["order"])
    blank = {"grade": "", "justification": ""}
    shown = [{name: {**row, **blank}[name] for name in SHEET} for row in rows]
    write_table(pl.DataFrame(shown, schema=SHEET), sheet)
    known = [{name: row[name] for name in KEY} for row in rows]
    write_table(pl.DataFrame(known, schema=KEY), key)


# -- reading grades --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One answer as the sheet shows it in one order."""

    id: str
    question: int
    arm: str
    seed: int | None
    order: int
    place: int

    @property
    def model(self) -> Model:
        """Who answered."""
        return self.arm, self.seed

    def __str__(self) -> str:
        """Return what a message calls it."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"question {self.question}, arm {self.arm}{seed}, order {self.order}"


def read_grades(
    path: str | Path, *, key: str | Path, scale: tuple[float, float], output: str | Path
) -> None:
    """Write every grade of a person's or judge's table, with the place its answer was shown at.

    The table is a filled sheet (told by its column `id`), or one with columns `question` (its
    number), `arm`, `seed` (empty where the model has none), `order`, `grade` and `justification`.
    Raises `InputError` for a column that is missing, a question, arm, seed, order or id that is
    unknown, a grade that is missing, no number or off the `scale`, an answer that is graded twice
    in an order, and one that is not graded in both.
    """
    shown = [Shown(**row) for row in pl.read_csv(key, schema=KEY).to_dicts()]
    header, rows = _read(path)
    find = _by_id(shown) if "id" in header else _by_name(shown)
    found: dict[Shown, tuple[int, float, str]] = {}
    for number, row in rows:
        where = f"{path}: row {number}"
        one = find(row, where)
        if one in found:
            raise InputError(
                f"{where}: {one} is graded in row {found[one][0]} already, expected one grade; "
                "take one of the rows out"
            )
        found[one] = (number, _grade(row["grade"], scale, where), row["justification"])
    for one in shown:
        if one not in found:
            others = sum(other in found for other in shown if _alike(other, one))
            raise InputError(
                f"{path}: {one}: found no grade ({others} of {len(ORDERS)} orders), expected one "
                "of every answer in both orders; add its row"
            )
    table = [
        (one.question, one.arm, one.seed, one.order, one.place, found[one][1], found[one][2])
        for one in sorted(shown, key=lambda one: (one.question, shown.index(one)))
    ]
    write_table(pl.DataFrame(table, schema=COLUMNS, orient="row"), output)
    log.info("%d grades read", len(table))


def _alike(one: Shown, other: Shown) -> bool:
    return (one.question, one.model) == (other.question, other.model)


def _read(path: str | Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the columns, and each row with its number; the header is row 1, as in spreadsheets."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a CSV file with grades") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: is no CSV ({error}); quote texts that hold quotes") from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    wanted = OF_SHEET if "id" in header else OF_ONES_OWN
    missing = [name for name in wanted if header.count(name) != 1]
    if missing:
        named = ", ".join(map(_said, header)) or "nothing"
        raise InputError(
            f"{path}: row 1: found the columns {named}, expected {missing[0]!r} once; a table of "
            f"grades has {', '.join(OF_ONES_OWN)} or, as a filled sheet, {', '.join(OF_SHEET)}, "
            "set apart by commas"
        )

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        for number, cells in enumerate(lines[1:], 2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}: row {number}: found {len(cells)} cells, expected {len(header)} as in "
                    "the header; quote texts that hold commas"
                )
            yield number, dict(zip(header, (cell.strip() for cell in cells), strict=True))

    return header, rows()


def _said(cell: str) -> str:
    """Return a found cell as a message may show it."""
    return repr(cell) if len(cell) <= LONGEST_SHOWN else f"a text of {len(cell)} characters"


def _grade(cell: str, scale: tuple[float, float], where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    low, high = scale
    if not low <= value <= high:
        found = _said(cell) if cell else "nothing"
        raise InputError(
            f"{where}: grade: found {found}, expected a number from {low:g} to {high:g}; mend it, "
            "or set questions.scale"
        )
    return value


Find = Callable[[Mapping[str, str], str], Shown]
"""A row and where it stands → the answer that it grades."""


def _by_id(shown: Sequence[Shown]) -> Find:
    known = {one.id: one for one in shown}

    def find(row: Mapping[str, str], where: str) -> Shown:
        if row["id"] not in known:
            raise InputError(
                f"{where}: id: found {_said(row['id'])}, which the sheet does not have; if it was "
                "made of other answers, grade a copy of the present grading_sheet.csv"
            )
        return known[row["id"]]

    return find


def _by_name(shown: Sequence[Shown]) -> Find:
    known = {(one.question, one.arm, one.seed, one.order): one for one in shown}
    numbers = sorted({one.question for one in shown})
    arms = sorted({one.arm for one in shown})

    def find(row: Mapping[str, str], where: str) -> Shown:
        question = _whole(row["question"])
        if question not in numbers:
            raise InputError(
                f"{where}: question: found {_said(row['question'])}, expected the number of one, "
                f"{numbers[0]} to {numbers[-1]}, as in answers.csv"
            )
        arm = row["arm"]
        if arm not in arms:
            raise InputError(
                f"{where}: arm: found {_said(arm)}, expected one of {', '.join(arms)}"
                f"{near_miss(arm, arms)}"
            )
        seeds = sorted({one.seed for one in shown if one.arm == arm}, key=lambda seed: seed or 0)
        seed = _whole(row["seed"])
        if seed not in seeds or (seed is None and row["seed"]):
            allowed = ", ".join("an empty cell" if s is None else str(s) for s in seeds)
            raise InputError(
                f"{where}: seed: found {_said(row['seed'])}, expected of arm {arm} {allowed}, as "
                "in answers.csv"
            )
        order = _whole(row["order"])
        if order not in ORDERS:
            raise InputError(
                f"{where}: order: found {_said(row['order'])}, expected "
                f"{' or '.join(map(str, ORDERS))}, as in grading_sheet.csv"
            )
        assert question is not None and order is not None
        return known[question, arm, seed, order]

    return find


def _whole(cell: str) -> int | None:
    return int(cell) if cell.isascii() and cell.isdigit() else None


# -- what they tell --------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrderEffect:
    """What the order of answers did to their grades."""

    answers: int
    equal: int
    """Answers with the same grade in both orders."""
    earlier: int
    """Answers graded higher where they were shown earlier."""
    later: int
    """Answers graded higher where they were shown later."""
    gain: float
    """Mean of the grade where shown earlier less that where shown later."""
    pairs: int
    """Pairs of answers to the same question."""
    turned: int
    """Of these, the ones whose better answer is the other one in the other order."""


@dataclass(frozen=True)
class Pair:
    """Two models, by questions."""

    first: Model
    second: Model
    better: int
    """Questions in which the first has the higher grade in both orders."""
    worse: int
    undecided: int
    """Questions with equal grades, or in which the order decides."""

    @property
    def p(self) -> float:
        """Two-sided p of the exact sign test over the decided questions."""
        decided = self.better + self.worse
        return float(binomtest(self.better, decided).pvalue) if decided else 1.0


def _by_answer(grades: pl.DataFrame) -> dict[tuple[int, Model], dict[int, tuple[int, float]]]:
    """Return place and grade by order, of each answer."""
    found: dict[tuple[int, Model], dict[int, tuple[int, float]]] = {}
    for row in grades.iter_rows(named=True):
        answer = found.setdefault((row["question"], (row["arm"], row["seed"])), {})
        answer[row["order"]] = (row["place"], row["grade"])
    return found


def order_effect(grades: pl.DataFrame) -> OrderEffect:
    """Return what the order did; `grades` has the columns of grades.csv."""
    found = _by_answer(grades)
    gains, equal = [], 0
    for by_order in found.values():
        (first, here), (second, there) = (by_order[order] for order in ORDERS)
        equal += here == there
        if first != second:
            gains.append(here - there if first < second else there - here)
    by_question: dict[int, list[dict[int, tuple[int, float]]]] = {}
    for (question, _), by_order in found.items():
        by_question.setdefault(question, []).append(by_order)
    pairs = [pair for answers in by_question.values() for pair in combinations(answers, 2)]
    turned = sum(math.prod(one[k][1] - other[k][1] for k in ORDERS) < 0 for one, other in pairs)
    return OrderEffect(
        len(found), equal, sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains),
        float(np.mean(gains)) if gains else 0.0, len(pairs), turned,
    )  # fmt: skip


def compared_pairs(grades: pl.DataFrame, models: Sequence[Model]) -> list[Pair]:
    """Return how each two models compare over the questions."""
    found = _by_answer(grades)
    questions = sorted(grades["question"].unique())
    pairs = []
    for first, second in combinations(models, 2):
        signs = [
            [
                np.sign(found[question, first][order][1] - found[question, second][order][1])
                for order in ORDERS
            ]
            for question in questions
        ]
        better, worse = signs.count([1, 1]), signs.count([-1, -1])
        pairs.append(Pair(first, second, better, worse, len(signs) - better - worse))
    return pairs


def grade_blocks(
    grades: pl.DataFrame,
    models: Sequence[Model],
    *,
    scale: tuple[float, float],
    confidence: float,
) -> list[Block]:
    """Return what the grades tell, and what they cannot; single grades stand with the answers."""
    found = _by_answer(grades)
    questions = sorted(grades["question"].unique())
    rows = []
    for model in models:
        each = [[found[question, model][order][1] for order in ORDERS] for question in questions]
        means = [float(np.mean(column)) for column in (each, *zip(*each, strict=True))]
        single = ", ".join("/".join(f"{grade:g}" for grade in pair) for pair in each)
        rows.append([model_name(model), single, *(f"{mean:.2f}" for mean in means)])
    blocks: list[Block] = [
        Heading("Grades"),
        Paragraph(
            f"From {scale[0]:g} to {scale[1]:g}, higher is better. Each answer was graded twice: "
            "order 2 shows the answers to a question in the reverse of order 1, and the sheet "
            "names no model. Every grade is shown question by question, as order 1/order 2."
        ),
        Table(("model", "every grade", "mean", "mean, order 1", "mean, order 2"), rows),
    ]
    pairs = compared_pairs(grades, models)
    if not pairs:
        return blocks
    # The least p that so many questions can give, times the number of pairs (Bonferroni).
    least = 2 * 0.5 ** len(questions)
    possible = least * len(pairs) <= 1 - confidence
    corrected = holm({(model_name(p.first), model_name(p.second)): p.p for p in pairs})
    return [
        *blocks,
        _effect(order_effect(grades)),
        Table(
            (
                "pair", "first better in both orders", "second better in both orders",
                "equal, or the order decides", *(["p, Holm"] if possible else []),
            ),
            [
                [
                    f"{model_name(pair.first)} – {model_name(pair.second)}",
                    *map(str, (pair.better, pair.worse, pair.undecided)),
                    *(
                        [p_cell(corrected[model_name(pair.first), model_name(pair.second)])]
                        if possible
                        else []
                    ),
                ]
                for pair in pairs
            ],
        ),
        Paragraph(
            f"p is of the exact sign test over the {len(questions)} questions, those left out that "
            "are equal or that the order decides, with Holm's correction for the "
            f"{counted(len(pairs), 'pair')}. It is about these questions, this grader and these "
            "runs: other seeds would write other answers."
            if possible
            else _no_verdict(len(questions), len(pairs), least)
        ),
    ]  # fmt: skip


def _no_verdict(questions: int, pairs: int, least: float) -> str:
    corrected = (
        f", {min(1.0, least * pairs):.2g} when corrected for {pairs} pairs" if pairs > 1 else ""
    )
    return (
        f"No verdict can be had from {counted(questions, 'question')}: a model that is graded "
        f"higher than another in both orders of every one of them would be so by chance with "
        f"p = {min(1.0, least):.2g} (exact sign test){corrected}. Read the answers, and every "
        "single grade with its justification; a mean of so few says next to nothing."
    )


def _effect(effect: OrderEffect) -> Items:
    moved = effect.earlier + effect.later
    return Items(
        [
            f"Effect of the order: {effect.equal} of {counted(effect.answers, 'answer')} got the "
            f"same grade in both orders. Shown earlier, an answer got {effect.gain:+.2f} on "
            f"average; of the {moved} that moved with their place {effect.earlier} got more where "
            f"shown earlier, {effect.later} where shown later.",
            f"In {effect.turned} of {counted(effect.pairs, 'pair')} of answers to the same "
            "question the order decides which is better.",
        ]
    )
