"""Made-up cohort tables."""

import numpy as np
import polars as pl

from peft_ablation.sources.mimic.labels import LABELS


def table_of(*rows: dict[str, int]) -> pl.DataFrame:
    """Return a cohort table with one image a study, two studies a subject."""
    columns = {
        "dicom_id": [f"image-{i:04d}" for i in range(len(rows))],
        "subject_id": [10 + i // 2 for i in range(len(rows))],
        "study_id": [100 + i for i in range(len(rows))],
        "view_position": ["PA"] * len(rows),
        **{label: pl.Series([row.get(label) for row in rows], dtype=pl.Int8) for label in LABELS},
    }
    return pl.DataFrame(columns)


def random_table(rows=400, seed=0):
    chosen = np.random.default_rng(seed).choice(
        [1, 0, -1, 9], size=(rows, 14), p=[0.2, 0.1, 0.1, 0.6]
    )
    return table_of(
        *({name: int(v) for name, v in zip(LABELS, row, strict=True) if v != 9} for row in chosen)
    )
