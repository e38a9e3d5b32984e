"""The spellings of the 14 labels."""

import pytest

from peft_ablation.sources.mimic.labels import (
    LABELS,
    NO_FINDING,
    PATHOLOGIES,
    canonical_label,
    canonical_labels,
    display_name,
)


def test_there_are_thirteen_pathologies_and_no_finding() -> None:
    assert (len(LABELS), len(PATHOLOGIES), NO_FINDING) == (14, 13, "No_Finding")
    assert NO_FINDING not in PATHOLOGIES


@pytest.mark.parametrize(
    "column",
    ["Lung_Opacity", "Lung Opacity", " Lung Opacity", "Lung_Opacity\t"],
)
def test_spaces_underscores_and_blanks_around_do_not_matter(column: str) -> None:
    assert canonical_label(column) == "Lung_Opacity"


def test_the_published_misspelling_is_known() -> None:
    for column in ("Enlarged Cardiomedastinum", "Enlarged_Cardiomedastinum"):
        assert canonical_label(column) == "Enlarged_Cardiomediastinum"


@pytest.mark.parametrize("column", ["subject_id", "lung opacity", "Lung", ""])
def test_what_is_no_label_has_no_name(column: str) -> None:
    assert canonical_label(column) is None


def test_labels_among_columns_by_hand() -> None:
    columns = ["study_id", "Pleural Other", "No_Finding"]
    assert canonical_labels(columns) == {
        "Pleural Other": "Pleural_Other",
        "No_Finding": "No_Finding",
    }


def test_a_label_is_read_with_spaces() -> None:
    assert display_name("Pleural_Effusion") == "Pleural Effusion"
    assert all(canonical_label(display_name(label)) == label for label in LABELS)
