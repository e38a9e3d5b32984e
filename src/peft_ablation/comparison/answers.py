"""What models answered to a few questions, side by side, with every grade if there are any."""

from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.artifacts import write_text
from peft_ablation.comparison.captions import counted, listed
from peft_ablation.comparison.grades import (
    COLUMNS as GRADES,
)
from peft_ablation.comparison.grades import (
    ORDERS,
    Model,
    grade_blocks,
    model_name,
)
from peft_ablation.comparison.pages import Block, Heading, Items, Paragraph, Table, Texts, html
from peft_ablation.scoring.answer_table import COLUMNS, END, LIMIT

NOTHING: Final = "(nothing)"
"""What stands for an empty answer or justification."""
STOPPED: Final = {END: "came to its end", LIMIT: "cut off at the limit"}
"""How an answer stopped, by `stopped` of answers.csv."""


def show_answers(
    answers: str | Path,
    *,
    grades: str | Path | None,
    study: str,
    public: bool,
    scale: tuple[float, float],
    confidence: float,
    output: str | Path,
) -> None:
    """Write the page, HTML, of what `scoring.questions` and `comparison.grades` wrote.

    Where the data are not `public`, it shows neither answers nor justifications.
    """
    blocks = answers_page(
        pl.read_csv(answers, schema=COLUMNS),
        None if grades is None else pl.read_csv(grades, schema=GRADES),
        study=study, public=public, scale=scale, confidence=confidence,
    )  # fmt: skip
    write_text(output, html(blocks, f"Questions, study {study}"))


def answers_page(
    answers: pl.DataFrame,
    grades: pl.DataFrame | None,
    *,
    study: str,
    public: bool,
    scale: tuple[float, float],
    confidence: float,
) -> list[Block]:
    """Return the page; tables have the columns of answers.csv and grades.csv."""
    models: list[Model] = list(dict.fromkeys(answers.select("arm", "seed").rows()))
    questions = dict(answers.select("question", "text").rows())
    smoke = "A smoke run: it shows that the study runs. Its answers mean nothing."
    withheld = (
        "Answers are not shown, nor justifications: models may repeat what they were trained on, "
        "and the study does not say that its data are public (data.public). They stand in "
        "answers.csv and grades.csv, beside this page."
    )
    blocks: list[Block] = [
        Heading(f"Questions, answered side by side, study {study}", 1),
        *([Paragraph(smoke)] if study.endswith(".smoke") else []),
        Paragraph(
            f"{counted(len(questions), 'question')}, answered by {listed(_names(models))}; each "
            "was asked alone, in the form and with the settings that the study predicts with. An "
            "answer that was cut off went on to the longest that the settings allow."
        ),
        *([] if public else [Paragraph(withheld)]),
        Table(
            ("model", *STOPPED.values(), "tokens of each answer"),
            [_stops(model, answers) for model in models],
        ),
    ]
    if grades is not None:
        blocks += grade_blocks(grades, models, scale=scale, confidence=confidence)
    else:
        blocks.append(
            Items(
                [
                    "Not graded. grading_sheet.csv beside this page shows the answers without "
                    "names, in two orders; a filled copy is read by questions.grades."
                ]
            )
        )
    for number, text in questions.items():
        of_model = [_of(model, answers.filter(pl.col("question") == number)) for model in models]
        rows = [[answer[0]["answer"] or NOTHING for answer in of_model]] if public else []
        rows.append([f"{a[0]['tokens']} tokens, {STOPPED[a[0]['stopped']]}" for a in of_model])
        if grades is not None:
            asked = grades.filter(pl.col("question") == number)
            graded = [_of(model, asked) for model in models]
            rows += [[_graded(one, order, public) for one in graded] for order in ORDERS]
        blocks += [Heading(f"Question {number}"), Paragraph(text), Texts(_names(models), rows)]
    return blocks


def _names(models: list[Model]) -> list[str]:
    return [model_name(model) for model in models]


def _of(model: Model, table: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a model, in order."""
    arm, seed = model
    return table.filter((pl.col("arm") == arm) & pl.col("seed").eq_missing(seed)).to_dicts()


def _stops(model: Model, answers: pl.DataFrame) -> list[str]:
    rows = _of(model, answers)
    counts = [sum(row["stopped"] == how for row in rows) for how in STOPPED]
    return [model_name(model), *map(str, counts), ", ".join(str(row["tokens"]) for row in rows)]


def _graded(rows: list[dict[str, Any]], order: int, public: bool) -> str:
    (row,) = (row for row in rows if row["order"] == order)
    line = f"Order {order}, place {row['place']}: grade {row['grade']:g}"
    return f"{line}\n{row['justification'] or NOTHING}" if public else line
