"""The 14 CheXpert labels of MIMIC-CXR-JPG, their order, spellings and values.

Source: Johnson et al., MIMIC-CXR-JPG 2.1.0 (PhysioNet), file `mimic-cxr-2.0.0-chexpert.csv.gz`.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

LABELS: Final[tuple[str, ...]] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged_Cardiomediastinum",
    "Fracture",
    "Lung_Lesion",
    "Lung_Opacity",
    "Pleural_Effusion",
    "Pleural_Other",
    "Pneumonia",
    "Pneumothorax",
    "Support_Devices",
    "No_Finding",
)
"""Canonical column names, in the order of the published sentences and quotas."""

PATHOLOGIES: Final[tuple[str, ...]] = LABELS[:-1]
"""All labels but `No_Finding`."""

NO_FINDING: Final[str] = LABELS[-1]


class Mention(IntEnum):
    """What a label's value says of the finding; an empty cell (null) is `not mentioned`."""

    SUSPECTED = -1
    ABSENT = 0
    PRESENT = 1


_MISSPELT = {"Enlarged_Cardiomedastinum": "Enlarged_Cardiomediastinum"}


def canonical_label(column: str) -> str | None:
    """Return the canonical name of a label column, or None if it is no label.

    Accepts spaces or underscores, and the published misspelling `Enlarged Cardiomedastinum`.
    """
    name = column.strip().replace(" ", "_")
    name = _MISSPELT.get(name, name)
    return name if name in LABELS else None


def display_name(label: str) -> str:
    """Return the label as a person reads it: `Pleural_Effusion` → `Pleural Effusion`."""
    return label.replace("_", " ")


def canonical_labels(columns: Iterable[str]) -> dict[str, str]:
    """Map each label column among `columns` to its canonical name."""
    named = ((column, canonical_label(column)) for column in columns)
    return {column: label for column, label in named if label is not None}
