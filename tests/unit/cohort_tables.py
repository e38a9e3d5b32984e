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


def examples_of(table: pl.DataFrame) -> pl.DataFrame:
    """Return a cohort table with the columns that an examples table has for the splits."""
    rows = table.select(LABELS).to_dicts()

    def having(values: set[int]) -> pl.Series:
        lists = [[label for label in LABELS if row[label] in values] for row in rows]
        return pl.Series(lists, dtype=pl.List(pl.Enum(LABELS)))

    return pl.DataFrame(
        {
            "example_id": table["dicom_id"],
            "group": table["subject_id"].cast(pl.String),
            "split": pl.Series([None] * table.height, dtype=pl.String),
            "balance": having({1}),
            "mentioned": having({1, -1}),
        }
    ).hstack(table)


def random_table(rows=400, seed=0):
    chosen = np.random.default_rng(seed).choice(
        [1, 0, -1, 9], size=(rows, 14), p=[0.2, 0.1, 0.1, 0.6]
    )
    return table_of(
        *({name: int(v) for name, v in zip(LABELS, row, strict=True) if v != 9} for row in chosen)
    )
