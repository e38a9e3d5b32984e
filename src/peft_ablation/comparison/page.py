"""The comparison of arms for a reader: rounded tables, what they mean, what they do not allow."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from peft_ablation.comparison.pages import Block, Heading, Items, Paragraph, Table

Row = Mapping[str, Any]
NONE: Final = "–"
LOWER_IS_BETTER: Final = {"test_loss"}
NAMES: Final = {"bleu": "BLEU", "findings_f1": "findings F1", "test_loss": "test loss"}
DIGITS: Final = {"bleu": 1, "findings_f1": 3, "test_loss": 3}


def comparison_page(
    rows: Sequence[Row], *, study: str, reference: str | None, confidence: float, samples: int
) -> list[Block]:
    """Return the page of a comparison; `rows` are the rows of `comparison.csv`."""
    level = f"{100 * confidence:g} %"
    first = rows[0]
    return [
        Heading(f"Comparison of arms, study {study}", 1),
        Paragraph(
            f"{first['test_reports']:,} test reports of {first['test_subjects']:,} subjects; "
            f"scores are means over seeds, in brackets the {level} interval over subjects and "
            "seeds."
        ),
        Heading("Quality"),
        _quality(rows),
        *_differences(rows, reference),
        Heading("Does the model look at the image?"),
        _honesty(rows),
        Heading("What it costs"),
        _costs(rows),
        Heading("What the columns mean"),
        Items(_meanings(level, samples)),
        Heading("What is not comparable"),
        Items(_caveats(rows)),
    ]


def _quality(rows: Sequence[Row]) -> Table:
    first = rows[0]
    arms = [
        [
            row["arm"],
            str(row["seeds"]),
            *(_with_interval(row, metric) for metric in ("bleu", "findings_f1", "test_loss")),
            _plain(row["findings_f1_sd"], 3),
            _plain(row["bleu_sd"], 1),
            _plain(row["distinct_texts"], 0),
            _plain(row["unparsable_share"], 1, 100, " %"),
        ]
        for row in rows
    ]
    baselines = [
        [
            f"{name} (no training)",
            NONE,
            _plain(first[f"{column}_bleu"], 1),
            _plain(first[f"{column}_findings_f1"], 3),
            *[NONE] * 5,
        ]
        for name, column in (
            ("commonest report, always", "constant_report"),
            ("commonest findings, always", "label_prior"),
            ("best number of them, always", "best_prior"),
        )
    ]
    header = ("arm", "seeds", "BLEU", "findings F1", "test loss", "F1, SD over seeds")
    return Table(
        (*header, "BLEU, SD over seeds", "distinct texts", "unparsable sentences"),
        [*arms, *baselines],
    )


def _differences(rows: Sequence[Row], reference: str | None) -> list[Block]:
    compared = [row for row in rows if row["arm"] != reference]
    if reference is None:
        return [Paragraph("The study has no arm of method full to compare with.")]
    if not compared:
        return []
    metrics = ("findings_f1", "bleu", "test_loss")
    return [
        Heading(f"Difference to {reference}"),
        Table(
            (
                "arm",
                *(f"{NAMES[metric]}{part}" for metric in metrics for part in ("", ", verdict")),
            ),
            [
                [
                    row["arm"],
                    *(
                        cell
                        for metric in metrics
                        for cell in (
                            _with_interval(row, f"{metric}_difference", signed=True),
                            _verdict(row, metric),
                        )
                    ),
                ]
                for row in compared
            ],
        ),
    ]


def _verdict(row: Row, metric: str) -> str:
    low, high = row[f"{metric}_difference_low"], row[f"{metric}_difference_high"]
    if low is None:
        return NONE
    if low <= 0 <= high:
        return "not told apart"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def _honesty(rows: Sequence[Row]) -> Table:
    return Table(
        (
            "arm",
            "findings F1, images shuffled",
            "lost",
            "BLEU, images shuffled",
            "beats commonest report, BLEU",
            "beats commonest report, F1",
            "beats commonest findings, F1",
            "loses half when shuffled",
            "all four",
        ),
        [
            [
                row["arm"],
                _plain(row["findings_f1_shuffled"], 3),
                _plain(row["findings_f1_lost_when_shuffled"], 0, 100, " %"),
                _plain(row["bleu_shuffled"], 1),
                *(
                    _yes(row[column])
                    for column in (
                        "beats_constant_bleu",
                        "beats_constant_findings_f1",
                        "beats_label_prior_findings_f1",
                        "loses_half_when_shuffled",
                        "honest_learning",
                    )
                ),
            ]
            for row in rows
        ],
    )


def _costs(rows: Sequence[Row]) -> Table:
    return Table(
        (
            "arm",
            "rank",
            "trainable parameters",
            "of all",
            "training, s",
            "examples/s",
            "peak memory, MB",
            "stored, MB",
            "learning rate",
            "best epoch by seed",
        ),
        [
            [
                row["arm"],
                _plain(row["rank"], 0),
                f"{row['trainable_parameters']:,}",
                f"{row['trainable_percent']:.4g} %",
                _plain(row["train_seconds"], 1),
                _plain(row["examples_per_second"], 1),
                _plain(row["peak_memory_mb"], 0),
                _plain(row["adapter_mb"], 2),
                f"{row['learning_rate']:g}",
                f"{row['best_epoch']} of {row['epochs']}",
            ]
            for row in rows
        ],
    )


def _meanings(level: str, samples: int) -> list[str]:
    return [
        "BLEU: corpus BLEU by sacrebleu, 0 to 100. On template reports a constant text can have a "
        "high BLEU: read it beside findings F1 and the baselines.",
        "Findings F1: micro F1, 0 to 1, of the pathologies that reports state as present; reports "
        "are parsed by the template. No Finding has no part in it.",
        "Test loss: mean negative log-likelihood a token of the true reports, in nats.",
        f"Intervals: {level}, percentile bootstrap, {samples:,} resamples of subjects and of "
        "seeds; the same subjects are drawn for every arm, so that differences are paired. With "
        "few seeds their share of the interval is rough: see the standard deviation (SD).",
        "Verdict: better or worse where the interval of the difference leaves out 0, else not "
        "told apart. The intervals are not corrected for the number of comparisons.",
        "Commonest report, commonest findings: texts made from the training split and given for "
        "every image; of the findings as many as a training report has on average, or as many as "
        "give the best F1 on the training split.",
        "Images shuffled: the test images are permuted among themselves before the reports are "
        "written. A model that reads the image loses its findings F1.",
        "Training time is that of optimizer steps, without evaluation, saving and waiting; peak "
        "memory is the largest of all seeds; stored is what this arm needs on disk besides the "
        "base: the adapter, or the whole model.",
    ]


def _caveats(rows: Sequence[Row]) -> list[str]:
    rates = ", ".join(f"{row['arm']} {row['learning_rate']:g}" for row in rows)
    caveats = [
        f"Learning rates are set in the study ({rates}). Nothing here tunes them: unless the study "
        "file says how they were chosen, the arms had no equal budget of tuning, and part of a "
        "difference may be one of learning rates.",
        "All arms share epochs, batches, schedule and checkpoint selection; an arm that needs more "
        "or fewer epochs to its best is not given them.",
        "Scores of other studies, and those of the published reports, come from other data, bases "
        "and protocols: they do not belong beside these.",
    ]
    kinds = sorted({str(row["memory_kind"]) for row in rows})
    if len(kinds) > 1:
        caveats.append(f"Peak memory was measured in different ways: {', '.join(kinds)}.")
    elif kinds == ["process_rss"]:
        caveats.append(
            "Peak memory is that of the whole process on a CPU, libraries and data included: on a "
            "small model most of it is the same for all arms."
        )
    for key, name in (("device", "devices"), ("precision", "precisions")):
        values = sorted({str(row[key]) for row in rows})
        if len(values) > 1:
            caveats.append(f"Arms ran on different {name}: {', '.join(values)}; times differ too.")
    if any(row["seeds"] < 2 for row in rows):
        caveats.append(
            "An arm has one seed: its interval tells nothing of how another run would come out."
        )
    return caveats


def _with_interval(row: Row, column: str, *, signed: bool = False) -> str:
    digits = DIGITS[column.removesuffix("_difference")]
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return NONE
    form = f"{'+' if signed else ''}.{digits}f"
    interval = "" if low is None else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{interval}"


def _plain(value: float | None, digits: int, scale: float = 1, unit: str = "") -> str:
    return NONE if value is None else f"{value * scale:,.{digits}f}{unit}"


def _yes(value: bool | None) -> str:
    return NONE if value is None else ("yes" if value else "no")
