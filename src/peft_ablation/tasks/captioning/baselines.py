"""Reports that are given whatever the image shows."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES, Mention
from peft_ablation.sources.mimic.reports import load_template
from peft_ablation.tasks import Baseline


def constant_reports(training: pl.DataFrame, template: str | None) -> dict[str, Baseline]:
    """Return `constant_report`, and with a template `label_prior` and `best_prior`.

    `constant_report` is the commonest report of the training split: of several a row, the one that
    the most rows have. `label_prior` states its commonest present pathologies, as many as its
    reports have on average; `best_prior` so many of them as give the best findings F1 on the
    training split. Ties go to the text that sorts first, and to the label that comes first in
    `LABELS`.
    """
    several = training.schema["report"] == pl.List(pl.String)
    reports = training["report"].list.unique().explode() if several else training["report"]
    counts = Counter(reports.to_list())
    commonest = min(counts, key=lambda text: (-counts[text], text))
    constants = {
        "constant_report": Baseline(
            f"commonest {'report' if template else 'caption'}, always",
            {"hypothesis": commonest},
            {"training_reports": counts[commonest] / training.height},
        )
    }
    if template is None or not set(LABELS) <= set(training.columns):
        return constants
    present = np.array([int((training[label] == Mention.PRESENT).sum()) for label in PATHOLOGIES])
    order = np.argsort(-present, kind="stable")
    on_average = max(1, int(present.sum() / training.height + 0.5))
    found = np.cumsum(present[order])
    stated = training.height * np.arange(1, len(order) + 1)
    best = int(np.argmax(2 * found / (stated + present.sum()))) + 1
    for name, title, number in (
        ("label_prior", "commonest findings, always", on_average),
        ("best_prior", "best number of them, always", best),
    ):
        chosen = [PATHOLOGIES[label] for label in sorted(order[:number])]
        values: dict[str, Any] = dict.fromkeys(chosen, int(Mention.PRESENT))
        text = load_template(template).render(values) or ""
        constants[name] = Baseline(title, {"hypothesis": text}, {"pathologies": chosen})
    return constants
