"""The comparison of arms for a reader: rounded tables, what they mean, what they do not allow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from peft_ablation.comparison.claims import as_published_blocks
from peft_ablation.comparison.decision import of_interval, of_runs, size_word
from peft_ablation.comparison.forgetting import forgetting_blocks
from peft_ablation.comparison.looks import looks_blocks
from peft_ablation.comparison.pages import (
    NONE,
    Block,
    Heading,
    Items,
    Paragraph,
    Table,
    p_cell,
    plain,
    with_interval,
)
from peft_ablation.comparison.pareto import pareto_blocks
from peft_ablation.comparison.published import Ours, published_blocks
from peft_ablation.comparison.tuning import rate_and_edge, tuning_caveats, tuning_cost
from peft_ablation.comparison.views import views_blocks
from peft_ablation.comparison.words import Words
from peft_ablation.tasks import Claim

Row = Mapping[str, Any]


def comparison_page(
    rows: Sequence[Row],
    words: Words,
    looks: pl.DataFrame,
    *,
    study: str,
    reference: str | None,
    confidence: float,
    tested: Sequence[str],
    published: Sequence[Mapping[str, Any]] = (),
    shared: Sequence[str] = (),
    views: Sequence[Row] = (),
    pareto: Sequence[Row] = (),
    forgetting: str | Path | None = None,
    likelihoods: Sequence[Block] = (),
    by_group: Sequence[Block] = (),
    sweeps: Sequence[Block] = (),
    tokens: Sequence[Block] = (),
) -> list[Block]:
    """Return the page of a comparison; `rows` are the rows of `comparison.csv`, `looks` those of
    `peft_ablation.comparison.looks`.

    `published` are the numbers of `peft_ablation.comparison.published`; `shared` says what training
    and test have in common, see `shared_by_splits`; `views` and `pareto` are the rows of the tables
    of those modules; `forgetting` is the table of `peft_ablation.comparison.forgetting`, if it
    was made; `likelihoods`, `by_group`, `sweeps` and `tokens` are sections of their own.
    """
    level = f"{100 * confidence:g} %"
    first = rows[0]
    smoke = (
        [Paragraph("A smoke run: it shows that the study runs. Its scores mean nothing.")]
        if study.endswith(".smoke")
        else []
    )
    examples, groups = first["test_examples"], first["test_groups"]
    of_groups = f" of {groups:,} {words.group}s" if groups != examples else ""
    return [
        Heading(f"Comparison of arms, study {study}", 1),
        *smoke,
        Paragraph(
            f"{examples:,} test {words.example}s{of_groups}; scores are means over seeds, in "
            f"brackets the {level} interval over {words.group}s and seeds."
        ),
        *as_published_blocks(rows),
        Heading("Quality"),
        _quality(rows, words),
        *_decisions(rows, words, reference, tested),
        *_differences(rows, words, reference),
        *looks_blocks(looks, rows, words),
        *_at_chance(rows, words),
        *likelihoods,
        *forgetting_blocks(forgetting, words),
        *by_group,
        *sweeps,
        Heading("What it costs"),
        _costs(rows),
        *pareto_blocks(pareto, words, confidence),
        *views_blocks(views, ", ".join(sorted({row["device"] for row in _trained(rows)}))),
        *tokens,
        *published_blocks({study: Ours(words, {row["arm"]: row for row in rows}, published)}),
        Heading("What the columns mean"),
        Items(_meanings(words, level)),
        Heading("What is not comparable"),
        Items([*shared, *_caveats(rows, bool(published))]),
    ]


def shared_by_splits(accounts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences on what training and test share, from the accounts of splits and images."""
    found: dict[str, int] = {}
    for account in accounts:
        kept = account.get("unit", "")
        found |= {
            f"{kept}s": pairs["train_test"]
            for name, pairs in account.get("leakage", {}).items()
            if name == kept
        }
        for column, pairs in account.get("equal_texts", {}).items():
            found[f"texts (column {column}; case and white space aside)"] = pairs["train_test"]
        if "equal_images" in account:
            found["images (pixel by pixel)"] = account["equal_images"]["train_test"]
    return [
        f"Training and test share {count:,} {what}: what is known by heart counts as learnt."
        for what, count in found.items()
        if count
    ]


def _quality(rows: Sequence[Row], words: Words) -> Table:
    first = rows[0]
    arms = [
        [
            row["arm"],
            str(row["seeds"]),
            *(_with_interval(row, words, metric) for metric in words.compared),
            _rounded(row[f"{words.headline}_sd"], words, words.headline),
            *(
                plain(row[extra.name], extra.digits, extra.scale, extra.unit)
                for extra in words.extras
            ),
        ]
        for row in rows
    ]
    baselines = [
        [
            f"{title} (no training)",
            NONE,
            *(_rounded(first.get(f"{name}_{metric}"), words, metric) for metric in words.compared),
            *[NONE] * (1 + len(words.extras)),
        ]
        for name, title in words.baselines.items()
    ]
    return Table(
        (
            "arm",
            "seeds",
            *map(words.title, words.compared),
            f"{words.title(words.headline)}, SD over seeds",
            *(extra.title for extra in words.extras),
        ),
        [*arms, *baselines],
    )


def _decisions(
    rows: Sequence[Row], words: Words, reference: str | None, tested: Sequence[str]
) -> list[Block]:
    """Say of each arm whether it is good enough, in the metrics that the study tests."""
    lines = [
        [
            row["arm"],
            words.title(metric),
            _with_interval(row, words, metric, "_difference"),
            _effect(row[f"{metric}_effect_size"]),
            _rounded(row[f"{metric}_margin"], words, metric),
            p_cell(row[f"{metric}_p_randomised"]),
            p_cell(row[f"{metric}_p"]),
            p_cell(row[f"{metric}_p_holm"]),
            p_cell(row[f"{metric}_p_not_worse"]),
            row[f"{metric}_verdict"],
            _to_decide(row, metric, words),
        ]
        for row in rows
        for metric in tested
        if row.get(f"{metric}_verdict") is not None
    ]
    if not lines:
        return []
    return [
        Heading("Is it good enough?"),
        Table(
            (
                "arm", "metric", f"difference to {reference}", "effect size", "margin",
                "p, these runs", "p", "p, Holm", "p of worse than the margin, Holm",
                "verdict", "would decide",
            ),
            lines,
        ),
    ]  # fmt: skip


def _effect(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}, {size_word(value)}"


def _to_decide(row: Row, metric: str, words: Words) -> str:
    seeds, groups = row[f"{metric}_seeds_to_decide"], row[f"{metric}_groups_to_decide"]
    found = [f"{seeds} seeds"] if seeds else []
    found += [f"{groups:,} {words.group}s"] if groups else []
    return " or ".join(found) or NONE


def _differences(rows: Sequence[Row], words: Words, reference: str | None) -> list[Block]:
    compared = [row for row in rows if row["arm"] != reference]
    if reference is None:
        return [Paragraph("The study has no arm that trains every weight to compare with.")]
    if not compared:
        return []
    seeds = {row["arm"]: row["seeds"] for row in rows}
    return [
        Heading(f"Difference to {reference}"),
        Table(
            (
                "arm",
                *(
                    f"{words.title(metric)}{part}"
                    for metric in words.compared
                    for part in ("", ", verdict")
                ),
            ),
            [
                [
                    row["arm"],
                    *(
                        cell
                        for metric in words.compared
                        for cell in (
                            _with_interval(row, words, metric, "_difference"),
                            _verdict(row, words, metric, seeds[reference]),
                        )
                    ),
                ]
                for row in compared
            ],
        ),
    ]


def _verdict(row: Row, words: Words, metric: str, reference_seeds: int) -> str:
    low, high = row[f"{metric}_difference_low"], row[f"{metric}_difference_high"]
    verdict = of_interval(low, high, words.metrics[metric]["higher_is_better"])
    return NONE if verdict is None else verdict + of_runs(min(row["seeds"], reference_seeds))


def _at_chance(rows: Sequence[Row], words: Words) -> list[Block]:
    """Name the arms whose interval does not lie beyond what is given for every input alike."""
    blocks: list[Block] = []
    for claim in words.claims:
        arms = [row["arm"] for row in rows if not _beyond(row, claim, words)]
        if arms:
            title = words.baselines.get(claim.baseline, claim.baseline)
            blocks.append(
                Paragraph(
                    f"Not told apart from the baseline {title}, or below it, by the interval of "
                    f"{words.title(claim.metric)}: {', '.join(arms)}. These scores do not show "
                    "that such an arm can do the task at all: to be better than it says nothing."
                )
            )
    return blocks


def _beyond(row: Row, claim: Claim, words: Words) -> bool:
    """Tell whether an arm's interval lies on the better side of a baseline; True where unknown."""
    baseline = row.get(f"{claim.baseline}_{claim.metric}")
    low, high = row[f"{claim.metric}_low"], row[f"{claim.metric}_high"]
    if baseline is None or low is None:
        return True
    better = words.metrics[claim.metric]["higher_is_better"]
    return bool(low > baseline) if better else bool(high < baseline)


def _costs(rows: Sequence[Row]) -> Table:
    return Table(
        (
            "arm",
            "rank",
            "trainable parameters",
            "of all",
            "training, s",
            "tuning, s",
            "examples/s",
            "peak memory, MB",
            "stored, MB",
            "learning rate",
            "best epoch by seed",
        ),
        [
            [
                row["arm"],
                plain(row["rank"], 0),
                f"{row['trainable_parameters']:,}",
                f"{row['trainable_percent']:.4g} %",
                plain(row["train_seconds"], 1),
                tuning_cost(row),
                plain(row["examples_per_second"], 1),
                plain(row["peak_memory_mb"], 0),
                plain(row["adapter_mb"], 2),
                rate_and_edge(row),
                f"{row['best_epoch']} of {row['epochs']}",
            ]
            for row in rows
        ],
    )


def _meanings(words: Words, level: str) -> list[str]:
    definitions = [
        f"{said['title'][:1].upper()}{said['title'][1:]}: {said['definition']}."
        for name, said in words.metrics.items()
        if name in words.compared
    ]
    return [
        *definitions,
        f"Intervals: {level}, of a crossed random-effects design: both the test {words.group}s "
        f"(the same for every arm, so that differences are paired by {words.group}) and the seeds "
        "(an arm's own) vary. Each score enters by the jackknife; Student's t is weighted by the "
        "parts of the variance (Cochran and Cox). Two seeds tell little, so that their intervals "
        "are wide; one seed tells nothing of how another run would come out, and its interval is "
        "about that run alone.",
        "Is it good enough: p is two-sided, of no difference, and is 1 less the level at which the "
        "interval ends at 0; Holm's correction is over all tests of that table. Better or worse: "
        "p, Holm, is below 1 less the level. Equivalent within the margin: not told apart, and "
        "worse by less than the study's margin. Undecided: neither; would decide tells the fewest "
        f"seeds an arm, or test {words.group}s, with which it would be decided if the difference "
        "stays what it is, with Bonferroni's correction. Without a margin nothing can be "
        "equivalent: set score.margin before looking at the scores.",
        f"Effect size: the difference over the standard deviation of what single {words.group}s "
        "contribute to it (jackknife pseudo-values of the mean over seeds), Cohen's d_z. It tells "
        f"how far the difference stands out among {words.group}s, does not shrink with their "
        "number, and grows where more seeds even out the noise of runs; negligible below 0.2, "
        "small below 0.5, medium below 0.8 (Cohen, 1988).",
        "p, these runs: by paired approximate randomisation, two-sided: the outputs of the two "
        f"arms, seed by seed, are swapped at random in each {words.group}, 10,000 times, and p is "
        "the share of shuffles, the observed one counted in, whose difference is at least as far "
        "from 0. It takes these runs as given: small where they differ on further "
        f"{words.group}s too, whatever other seeds would do. The other p values heed the seeds, "
        "and they alone decide.",
        "Verdict of a difference: better or worse where its interval leaves out 0, else not told "
        "apart; higher or lower where no direction is better; not corrected for the number of "
        "comparisons. Where an arm has one seed, any "
        "verdict is about these runs, not about the arms.",
        "Training time is that of optimizer steps, without evaluation, saving and waiting, of one "
        "run; tuning is the same time of all trials that chose the arm's learning rate; peak "
        "memory is the largest of all seeds; stored is what this arm needs on disk besides the "
        "base: the adapter, or the whole model.",
    ]


def _trained(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of arms that were trained; all where none was."""
    return [row for row in rows if row["trainable_parameters"]] or rows


def _caveats(rows: Sequence[Row], published: bool) -> list[str]:
    caveats = [
        *tuning_caveats(rows),
        "All arms share epochs, batches, schedule and checkpoint selection; an arm that needs more "
        "or fewer epochs to its best is not given them.",
        "Published scores come from other data, bases and protocols, as is said above; those of "
        "other studies do, too."
        if published
        else "Scores of other studies, and those of the published reports, come from other data, "
        "bases and protocols: they do not belong beside these.",
    ]
    bases = sorted({str(row["base"]) for row in rows})
    if len(bases) > 1:
        starts = ", ".join(f"{row['arm']} {row['base']}" for row in rows)
        caveats.append(
            f"Arms start from different bases ({starts}): a difference between these is one of "
            "bases, their sizes and what they were trained on, as much as of methods."
        )
    others = [row["arm"] for row in rows if row.get("trained_elsewhere")]
    if others:
        caveats.append(
            f"Others trained {', '.join(others)}: on what, for how long, and after how many tries "
            "is not known here. If its training data hold rows of this test split (as where "
            "labelled rows of a public set were divided anew), its scores are too good."
        )
    trained = _trained(rows)
    kinds = sorted({str(row["memory_kind"]) for row in trained})
    if len(kinds) > 1:
        caveats.append(f"Peak memory was measured in different ways: {', '.join(kinds)}.")
    elif kinds == ["process_rss"]:
        caveats.append(
            "Peak memory is that of the whole process on a CPU, libraries and data included: on a "
            "small model most of it is the same for all arms."
        )
    for key, name in (("device", "devices"), ("precision", "precisions")):
        values = sorted({str(row[key]) for row in trained})
        if len(values) > 1:
            caveats.append(f"Arms ran on different {name}: {', '.join(values)}; times differ too.")
    if any(row["seeds"] < 2 for row in rows):
        caveats.append(
            "An arm has one seed: its interval tells nothing of how another run would come out."
        )
    return caveats


def _with_interval(row: Row, words: Words, metric: str, what: str = "") -> str:
    digits = words.metrics[metric]["digits"]
    return with_interval(row, f"{metric}{what}", digits, "+" if what else "")


def _rounded(value: float | None, words: Words, metric: str) -> str:
    return plain(value, words.metrics[metric]["digits"])
