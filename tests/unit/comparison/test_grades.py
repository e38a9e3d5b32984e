"""Grades: a blind sheet in both orders, strict reading, what is shown and what is not said."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy.stats import binomtest

from peft_ablation.comparison.answers import show_answers
from peft_ablation.comparison.grades import (
    COLUMNS,
    Pair,
    compared_pairs,
    order_effect,
    read_grades,
    write_grading_sheet,
)
from peft_ablation.errors import InputError
from peft_ablation.scoring.answer_table import COLUMNS as ANSWERS

MODELS = [("base", None), ("fft", 0), ("fft", 1), ("lora", 0)]


def said_by(arm: str, seed: int | str | None, question: int | str) -> str:
    return f'{arm}{seed} says <b>{question}</b>\n- "so", x'


def answers_of(questions: int = 5) -> pl.DataFrame:
    rows = [
        (n, f"Question {n}, is it?", arm, seed, said_by(arm, seed, n), n, "end")
        for arm, seed in MODELS
        for n in range(1, questions + 1)
    ]
    return pl.DataFrame(rows, schema=ANSWERS, orient="row")


class Sheet:
    """A sheet, its key, and tables of grades made from them."""

    def __init__(self, folder: Path, questions: int = 5, seed: int = 0) -> None:
        self.folder = folder
        self.answers, self.sheet, self.key = (
            folder / f"{name}.csv" for name in ("answers", "grading_sheet", "grading_key")
        )
        answers_of(questions).write_csv(self.answers)
        write_grading_sheet(self.answers, seed=seed, sheet=self.sheet, key=self.key)
        self.rows = rows_of(self.sheet)
        self.known = rows_of(self.key)

    def filled(self) -> list[dict[str, str]]:
        """The sheet, graded 1 to 9 in turn by its rows."""
        return [
            {**row, "grade": str(1 + n % 9), "justification": f'why {n}, and "how"'}
            for n, row in enumerate(self.rows)
        ]

    def own(self) -> list[dict[str, str]]:
        """The same grades in a table of one's own."""
        return [
            {
                **{name: known[name] for name in ("question", "arm", "seed", "order")},
                "grade": row["grade"], "justification": row["justification"],
            }
            for known, row in zip(self.known, self.filled(), strict=True)
        ]  # fmt: skip

    def read(
        self, rows: list[dict[str, str]], scale: tuple[float, float] = (1, 9), text: str = ""
    ) -> pl.DataFrame:
        given = self.folder / "given.csv"
        with given.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        if text:
            given.write_text(text, encoding="utf-8")
        output = self.folder / "grades.csv"
        read_grades(given, key=self.key, scale=scale, output=output)
        return pl.read_csv(output, schema=COLUMNS)

    def page(self, grades: pl.DataFrame | None = None, *, public: bool = True) -> str:
        if grades is not None:
            grades.write_csv(self.folder / "grades.csv")
        show_answers(
            self.answers, grades=None if grades is None else self.folder / "grades.csv",
            study="s", public=public, scale=(1, 9), confidence=0.95,
            output=self.folder / "page.html",
        )  # fmt: skip
        return (self.folder / "page.html").read_text(encoding="utf-8")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    return Sheet(tmp_path)


# -- the sheet -------------------------------------------------------------------------------------


def test_every_pair_of_answers_is_seen_both_ways_round(sheet: Sheet) -> None:
    assert len(sheet.rows) == 5 * 2 * len(MODELS)
    for question in "12345":
        asked = [known for known in sheet.known if known["question"] == question]
        orders = [[(k["arm"], k["seed"]) for k in asked if k["order"] == order] for order in "12"]
        assert sorted(orders[0]) == sorted((arm, "" if s is None else str(s)) for arm, s in MODELS)
        assert orders[0] == orders[1][::-1]


def test_places_are_those_of_the_rows_and_each_order_is_shown_whole(sheet: Sheet) -> None:
    assert [row["place"] for row in sheet.rows] == ["1", "2", "3", "4"] * 10
    assert [row["order"] for row in sheet.rows] == ["1"] * 20 + ["2"] * 20


def test_the_key_tells_whose_answer_stands_where(sheet: Sheet) -> None:
    for row, known in zip(sheet.rows, sheet.known, strict=True):
        assert row["id"] == known["id"]
        seed = known["seed"] or "None"
        assert row["answer"] == said_by(known["arm"], seed, row["question"])


def test_the_sheet_names_no_model_and_repeats_no_id(tmp_path: Path) -> None:
    """With answers that do not tell themselves whose they are."""
    plain = answers_of().with_columns(answer=pl.lit("the same"))
    plain.write_csv(tmp_path / "answers.csv")
    paths = {name: tmp_path / f"{name}.csv" for name in ("sheet", "key")}
    write_grading_sheet(tmp_path / "answers.csv", seed=0, **paths)
    text = paths["sheet"].read_text()
    assert not [arm for arm, _ in MODELS if arm in text]
    rows = rows_of(paths["sheet"])
    assert len({row["id"] for row in rows}) == len(rows)
    assert {(row["grade"], row["justification"]) for row in rows} == {("", "")}


def test_places_vary_with_the_question_and_stay_with_the_seed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    many, again, other = (
        Sheet(folder, 40, seed) for folder, seed in zip(folders, (0, 0, 1), strict=True)
    )
    assert many.sheet.read_bytes() == again.sheet.read_bytes()
    assert many.key.read_bytes() == again.key.read_bytes()
    assert many.key.read_bytes() != other.key.read_bytes()
    shown_first = [k for k in many.known if (k["order"], k["place"]) == ("1", "1")]
    first = Counter((known["arm"], known["seed"]) for known in shown_first)
    # 10 of 40 are expected; 2 or fewer, or 20 or more, would be one draw in a thousand.
    assert all(2 < first[arm, "" if seed is None else str(seed)] < 20 for arm, seed in MODELS)


# -- reading ---------------------------------------------------------------------------------------


def test_a_filled_sheet_and_a_table_of_ones_own_are_read_alike(sheet: Sheet) -> None:
    by_sheet, by_name = sheet.read(sheet.filled()), sheet.read(sheet.own())
    assert by_sheet.equals(by_name)
    for known, row in zip(sheet.known, sheet.filled(), strict=True):
        seed = int(known["seed"]) if known["seed"] else None
        (found,) = by_sheet.filter(
            (pl.col("question") == int(known["question"])) & (pl.col("arm") == known["arm"])
            & pl.col("seed").eq_missing(seed) & (pl.col("order") == int(known["order"]))
        ).to_dicts()  # fmt: skip
        assert found["grade"] == float(row["grade"])
        assert found["place"] == int(known["place"])
        assert found["justification"] == row["justification"]


def test_rows_may_stand_in_any_order_and_empty_ones_between(sheet: Sheet) -> None:
    empty = dict.fromkeys(sheet.own()[0], "")
    assert sheet.read([empty, *sheet.own()[::-1], empty]).equals(sheet.read(sheet.own()))


def changed(place: int, **cells: str) -> Any:
    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**row, **cells} if n == place else row for n, row in enumerate(rows)]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(0, arm="lorra"), r"row 2: arm: found 'lorra', expected one of base, fft, lora; d"),
        (changed(0, question="6"), r"row 2: question: found '6', expected the number of one, 1 to"),
        (changed(0, question="rain"), r"row 2: question: found 'rain', expected the number"),
        (changed(1, arm="fft", seed="7"), r"row 3: seed: found '7', expected of arm fft 0, 1"),
        (changed(1, arm="base", seed="x"), r"row 3: seed: found 'x', .* of arm base an empty cell"),
        (changed(1, arm="fft", seed=""), r"row 3: seed: found '', expected of arm fft 0, 1"),
        (changed(2, order="3"), r"row 4: order: found '3', expected 1 or 2"),
        (changed(3, grade=""), r"row 5: grade: found nothing, expected a number from 1 to 9"),
        (changed(3, grade="good"), r"row 5: grade: found 'good', expected a number from 1 to 9"),
        (changed(3, grade="0"), r"row 5: grade: found '0', expected a number from 1 to 9"),
        (changed(3, grade="9.5"), r"row 5: grade: found '9.5', expected a number from 1 to 9"),
        (changed(3, grade="nan"), r"row 5: grade: found 'nan', expected a number from 1 to 9"),
        (changed(3, grade="it rains and so on" * 2), r"row 5: grade: found a text of 36 char"),
        (lambda rows: rows[:-1], r"question \d, arm \w+(, seed \d)?, order 2: found no grade \(1 "),
        (lambda rows: [*rows, rows[4]], r"row 42: question 2, .* is graded in row 6 already"),
        (
            lambda rows: [{k: v for k, v in row.items() if k != "order"} for row in rows],
            r"row 1: found the columns .*, expected 'order' once; a table of grades has question",
        ),
    ],
    ids=[
        "arm", "question", "question in words", "seed", "seed of none", "seed missing", "order",
        "no grade", "no number", "too low", "too high", "nan", "a text", "order missing", "twice",
        "no column",
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(sheet: Sheet, change: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as told:
        sheet.read(change(sheet.own()))
    assert "\n" not in str(told.value)
    assert not (sheet.folder / "grades.csv").exists()


def test_a_sheet_of_other_answers_is_refused(sheet: Sheet, tmp_path: Path) -> None:
    rows = sheet.filled()
    other = answers_of().with_columns(answer=pl.col("answer") + ".")
    other.write_csv(sheet.answers)
    write_grading_sheet(sheet.answers, seed=0, sheet=sheet.sheet, key=sheet.key)
    with pytest.raises(
        InputError, match=r"row 2: id: found '1-1-1-\w{8}', which the sheet does not"
    ):
        sheet.read(rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id;grade;justification\n", r"row 1: found the columns a text of 22 characters, expected"),
        ("id,grade,justification\n1,2\n", r"row 2: found 2 cells, expected 3"),
        ('id,grade,justification\n1,2,"so\n', r"is no CSV \(unexpected end of data\)"),
        ("\n", r"row 1: found the columns nothing"),
    ],
    ids=["semicolons", "cells", "an open quote", "empty"],
)
def test_what_is_no_table_is_one_line(sheet: Sheet, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        sheet.read(sheet.own(), text=text)


def test_another_scale_is_held_to(sheet: Sheet) -> None:
    rows = [{**row, "grade": "0.5"} for row in sheet.own()]
    assert set(sheet.read(rows, scale=(0, 1))["grade"]) == {0.5}
    with pytest.raises(InputError, match="expected a number from 2 to 3"):
        sheet.read(rows, scale=(2, 3))


# -- what they tell --------------------------------------------------------------------------------


def grades_of(*answers: tuple[int, str, tuple[int, float], tuple[int, float]]) -> pl.DataFrame:
    """Grades of question, arm, and (place, grade) in both orders."""
    rows = [
        (question, arm, None, order, place, grade, f"{arm} {question} {order}")
        for question, arm, *both in answers
        for order, (place, grade) in enumerate(both, 1)
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


BY_HAND = grades_of(
    (1, "base", (1, 7), (3, 4)), (1, "fft", (2, 6), (2, 6)), (1, "lora", (3, 5), (1, 5)),
    (2, "base", (3, 2), (1, 3)), (2, "fft", (1, 8), (3, 9)), (2, "lora", (2, 8), (2, 7)),
)  # fmt: skip


def test_the_effect_of_the_order_by_hand() -> None:
    """Earlier less later: base +3 and +1, lora 0, fft -1; those in the middle have no such place.

    Pairs that turn: base and fft of question 1 (7 over 6, then 4 under 6), base and lora of
    question 1 (7 over 5, then 4 under 5); fft and lora of question 2 are equal in the first order.
    """
    effect = order_effect(BY_HAND)
    assert (effect.answers, effect.equal) == (6, 2)
    assert (effect.earlier, effect.later) == (2, 1)
    assert effect.gain == pytest.approx((3 + 1 + 0 - 1) / 4)
    assert (effect.pairs, effect.turned) == (6, 2)


def test_a_model_is_better_where_both_orders_say_so() -> None:
    found = compared_pairs(BY_HAND, [("base", None), ("fft", None), ("lora", None)])
    assert [(p.first[0], p.second[0], p.better, p.worse, p.undecided) for p in found] == [
        ("base", "fft", 0, 1, 1), ("base", "lora", 0, 1, 1), ("fft", "lora", 1, 0, 1),
    ]  # fmt: skip


def test_p_is_that_of_the_sign_test_over_decided_questions() -> None:
    pair = Pair(("a", None), ("b", None), better=7, worse=1, undecided=4)
    assert pair.p == pytest.approx(2 * (1 + 8) / 2**8)
    assert pair.p == pytest.approx(binomtest(7, 8).pvalue)
    assert Pair(("a", None), ("b", None), 0, 0, 3).p == 1


# -- the page --------------------------------------------------------------------------------------


def test_the_page_shows_every_answer_grade_and_justification(sheet: Sheet) -> None:
    page = sheet.page(sheet.read(sheet.filled()))
    assert "base says <b>" not in page
    for arm, seed in MODELS:
        for n in range(1, 6):
            assert f"{arm}{seed} says &lt;b&gt;{n}&lt;/b&gt;\n- &quot;so&quot;, x" in page
    for known, row in zip(sheet.known, sheet.filled(), strict=True):
        line = f"Order {known['order']}, place {known['place']}: grade {row['grade']}\n"
        number = row["justification"].split(",")[0]
        assert f"{line}{number}, and &quot;how&quot;" in page
    assert "No verdict can be had from 5 questions" in page
    assert "p = 0.062 (exact sign test), 0.38 when corrected for 6 pairs" in page
    assert "p, Holm" not in page


def test_enough_questions_have_a_p_and_no_fewer(tmp_path: Path) -> None:
    """With 6 pairs eight questions are the fewest: 6 · 2 / 2^8 is 0.047, for one less 0.094."""
    for questions, expected in ((7, False), (8, True)):
        found = Sheet(tmp_path, questions)
        page = found.page(found.read(found.own()))
        assert ("No verdict can be had" not in page) == expected
        assert ("p, Holm" in page) == expected


def test_without_grades_the_page_says_how_to_grade(sheet: Sheet) -> None:
    page = sheet.page()
    assert "Not graded." in page
    assert "Order 1" not in page


def test_what_is_not_public_is_not_shown(sheet: Sheet) -> None:
    page = sheet.page(sheet.read(sheet.filled()), public=False)
    assert "says &lt;b&gt;" not in page
    assert "why " not in page
    assert "Question 3, is it?" in page
    assert "Answers are not shown" in page
    assert page.count(", place ") == 40
