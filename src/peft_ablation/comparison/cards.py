"""Model cards: a run's model with its results, as a hub's page shows and reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import read_json, write_text
from peft_ablation.comparison.captions import named, sentence, tested_on
from peft_ablation.comparison.pages import Table, markdown, plain, with_interval
from peft_ablation.comparison.words import Words, read_rows

Row = Mapping[str, Any]


def write_cards(
    *,
    runs: Sequence[tuple[str, int]],
    models: Sequence[str | Path],
    scores: Sequence[str | Path],
    table: str | Path,
    words: str | Path,
    bases: Mapping[str, str],
    config: Mapping[str, Any],
    study: str,
    kind: str,
    confidence: float,
    terms: Sequence[str],
    cards: Sequence[str | Path],
) -> None:
    """Write one card a run, all in the order of `runs`.

    `bases` are ids on a hub by arm, of those that have one; `kind` is what a hub calls the task;
    `terms` say why weights may not be shared freely, none where they may.
    """
    rows = {row["arm"]: row for row in read_rows(table)}
    said = Words.read(words)
    for (arm, seed), model, scored, card in zip(runs, models, scores, cards, strict=True):
        text = model_card(
            Path(model, "README.md").read_text(encoding="utf-8"), rows[arm], read_json(scored),
            said, seed=int(seed), base=bases.get(arm), config=config, study=study, kind=kind,
            confidence=confidence, terms=terms,
        )  # fmt: skip
        write_text(card, text)


def model_card(
    readme: str,
    row: Row,
    scores: Mapping[str, Any],
    words: Words,
    *,
    seed: int,
    base: str | None,
    config: Mapping[str, Any],
    study: str,
    kind: str,
    confidence: float,
    terms: Sequence[str],
) -> str:
    """Return the card of one run: its model folder's README, results, and the data's terms.

    `row` is the arm's of `comparison.csv`, `scores` the run's. The metadata hold the run's own
    scores with their intervals; no example of the data is in it.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    found = ModelCard(readme, ignore_metadata_errors=True)
    level = scores["resampling"]["confidence"]
    results = [
        EvalResult(
            task_type=kind or "other",
            task_name=named(config),
            dataset_type=config["data"]["source"],
            dataset_name=f"{config['data']['source']}, study {study}",
            dataset_split="test",
            metric_type=metric,
            metric_name=words.title(metric),
            metric_value=scores[metric],
            metric_args=_interval(scores, metric, level, words),
        )
        for metric in words.compared
        if scores.get(metric) is not None
    ]
    data = ModelCardData(
        base_model=base,
        library_name=found.data.get("library_name"),
        license="other" if terms else None,
        license_name="terms-of-the-training-data" if terms else None,
        model_name=f"{study}, {row['arm']}, seed {seed}",
        pipeline_tag=kind or None,
        tags=["peft-ablation"],
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(
        [
            found.text.strip(),
            *(["## Before sharing", *terms] if terms else []),
            _results(row, scores, words, seed, confidence, level),
            "",
        ]
    )


def _interval(
    scores: Mapping[str, Any], metric: str, level: float, words: Words
) -> dict[str, Any] | None:
    interval = scores["intervals"].get(metric)
    if interval is None:
        return None
    return {"interval": list(interval), "confidence": level, "resampled": f"test {words.group}s"}


def _results(
    row: Row, scores: Mapping[str, Any], words: Words, seed: int, confidence: float, level: float
) -> str:
    reference = row["reference_arm"]
    compared = reference is not None and row["arm"] != reference
    lines = []
    for metric in words.compared:
        digits = words.metrics[metric]["digits"]
        low, high = scores["intervals"].get(metric) or (None, None)
        run = {"run": scores.get(metric), "run_low": low, "run_high": high}
        lines.append(
            [
                sentence(words.title(metric)),
                with_interval(run, "run", digits),
                with_interval(row, metric, digits),
                *([with_interval(row, f"{metric}_difference", digits, "+")] if compared else []),
                *(plain(row.get(f"{name}_{metric}"), digits) for name in words.baselines),
            ]
        )
    table = Table(
        (
            "metric",
            f"this model (seed {seed})",
            f"{row['arm']}, mean over {row['seeds']} seed{'' if row['seeds'] == 1 else 's'}",
            *([f"difference to {reference}"] if compared else []),
            *(f"without training: {title}" for title in words.baselines.values()),
        ),
        lines,
    )
    meanings = "\n".join(
        f"- {sentence(words.title(name))}: {words.metrics[name]['definition']}."
        for name in words.compared
    )
    return (
        f"## Results\n\nOn {tested_on(row, words)}. Brackets: for this model a {100 * level:g} % "
        f"interval over {words.group}s alone; for the mean and the difference {100 * confidence:g} "
        f"% over {words.group}s and seeds.\n\n{markdown([table])}\n{meanings}"
    )
