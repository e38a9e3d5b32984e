import csv
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.phantom.anatomy import NOT_MENTIONED, draw_traits, render
from peft_ablation.sources.phantom.tree import PREVALENCES, draw_population, render_tree

PHYSIONET_HEADERS = {
    "metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,"
    "Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning",
    "chexpert": "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,"
    "Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,"
    "Pleural Other,Pneumonia,Pneumothorax,Support Devices",
    "split": "dicom_id,study_id,subject_id,split",
}


def labelled(label: str | None, value: int, count: int = 8) -> np.ndarray:
    labels = np.full((count, len(LABELS)), NOT_MENTIONED, dtype=np.int8)
    if label is not None:
        labels[:, LABELS.index(label)] = value
    return labels


def drawn(label: str | None, value: int, style: str = "radiograph", size: int = 48) -> np.ndarray:
    """Eight images with the same bodies, places and noise whatever the finding."""
    return render(labelled(label, value), np.random.default_rng(3), size, style).astype(int)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    render_tree(root, subjects=20, size=32, seed=5)
    return root


def table(root: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(root / f"mimic-cxr-2.0.0-{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("style", ["radiograph", "schematic"])
@pytest.mark.parametrize("label", LABELS)
def test_present_finding_changes_visibly_many_pixels_of_every_image(label: str, style: str) -> None:
    change = np.abs(drawn(label, 1, style) - drawn(None, 1, style))
    plainly = (change > 20).sum(axis=(1, 2))
    assert plainly.min() >= 12, f"{label}: {plainly.tolist()} of 2304 pixels change by over 20"


@pytest.mark.parametrize("label", [label for label in LABELS if label != "No_Finding"])
def test_suspected_finding_is_fainter_than_present_but_there(label: str) -> None:
    none = drawn(None, 1)
    present = np.abs(drawn(label, 1) - none).sum()
    suspected = np.abs(drawn(label, -1) - none).sum()
    assert 0.15 * present < suspected < 0.8 * present


@pytest.mark.parametrize("label", LABELS)
def test_denied_finding_changes_nothing(label: str) -> None:
    assert np.array_equal(drawn(label, 0), drawn(None, 1))


def test_findings_of_one_image_leave_others_alone() -> None:
    labels = labelled(None, 1)
    labels[2] = 1
    changed = render(labels, np.random.default_rng(3), 48) != drawn(None, 1)
    assert np.nonzero(changed.any(axis=(1, 2)))[0].tolist() == [2]


def test_places_do_not_depend_on_the_image_size() -> None:
    traits = draw_traits(np.random.default_rng(1), 8)
    small, large = (
        render(
            labelled("Lung_Lesion", 1), np.random.default_rng(1), size, "schematic", traits=traits
        )
        for size in (48, 192)
    )
    shrunk = large.reshape(8, 48, 4, 48, 4).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 6


def test_images_of_one_label_vary() -> None:
    images = drawn("Pleural_Effusion", 1)
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("name", PHYSIONET_HEADERS)
def test_headers_are_physionets(tree: Path, name: str) -> None:
    with gzip.open(tree / f"mimic-cxr-2.0.0-{name}.csv.gz", "rt") as file:
        assert file.readline() == PHYSIONET_HEADERS[name] + "\n"


@pytest.mark.parametrize("name", PHYSIONET_HEADERS)
def test_headers_equal_those_of_a_real_tree(tree: Path, shared_data: Path, name: str) -> None:
    real = shared_data / "nih-cxr-mimic-layout" / f"mimic-cxr-2.0.0-{name}.csv.gz"
    ours = tree / real.name
    with gzip.open(ours, "rt") as phantom, gzip.open(real, "rt") as radiographs:
        assert phantom.readline() == radiographs.readline()


def test_every_file_is_listed_with_its_sha256(tree: Path) -> None:
    listed = dict(
        reversed(line.split(" ", 1)) for line in (tree / "SHA256SUMS.txt").read_text().splitlines()
    )
    found = {
        str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree.rglob("*.*")
        if path.is_file() and path.name != "SHA256SUMS.txt"
    }
    assert listed == found
    assert sum(path.endswith(".jpg") for path in listed) == len(table(tree, "metadata"))


def test_images_lie_where_the_metadata_says(tree: Path) -> None:
    for row in table(tree, "metadata"):
        subject, study = row["subject_id"], row["study_id"]
        path = tree / f"files/p{subject[:2]}/p{subject}/s{study}/{row['dicom_id']}.jpg"
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (32, 32))
        assert (row["Rows"], row["Columns"]) == ("32", "32")


def test_same_arguments_give_the_same_bytes_and_another_seed_does_not(
    tree: Path, tmp_path: Path
) -> None:
    render_tree(tmp_path / "again", subjects=20, size=32, seed=5)
    render_tree(tmp_path / "other", subjects=20, size=32, seed=6)
    files = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(tmp_path / "again")
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    }
    assert all((tree / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    sums = (tmp_path / "other" / "SHA256SUMS.txt").read_text()
    assert sums != (tree / "SHA256SUMS.txt").read_text()


def test_population_is_shaped_like_mimic_cxr() -> None:
    population = draw_population(2000, np.random.default_rng(0))
    labels, subjects = population.labels, population.subject
    assert len(np.unique(subjects)) == 2000 < len(subjects) < len(population.study_of)
    assert {str(subject)[:2] for subject in subjects} == {f"1{digit}" for digit in range(10)}
    assert set(population.view) == {"AP", "PA", "LATERAL", "LL"}
    for label, (present, suspected, _) in PREVALENCES.items():
        column = labels[:, LABELS.index(label)]
        assert (column == 1).mean() == pytest.approx(present, abs=0.002)
        assert (column == -1).mean() == pytest.approx(suspected, abs=0.002)
        assert (column == 0).any()
        assert (column == NOT_MENTIONED).any()


def test_findings_go_together_as_in_patients() -> None:
    labels = draw_population(4000, np.random.default_rng(0)).labels == 1
    share = {label: labels[:, row] for row, label in enumerate(LABELS)}

    def lift(one: str, other: str) -> float:
        both = (share[one] & share[other]).mean()
        return float(both / (share[one].mean() * share[other].mean()))

    assert lift("Cardiomegaly", "Edema") > 1.5
    assert lift("Pneumonia", "Consolidation") > 1.5
    assert lift("Fracture", "Pneumothorax") > 1.5
    assert lift("Lung_Lesion", "Edema") < 1.2


def test_no_finding_excludes_every_pathology() -> None:
    labels = draw_population(500, np.random.default_rng(0)).labels
    normal = labels[:, LABELS.index("No_Finding")] == 1
    pathologies = np.delete(
        labels, [LABELS.index("Support_Devices"), LABELS.index("No_Finding")], axis=1
    )
    assert normal.any()
    assert not np.isin(pathologies[normal], [1, -1]).any()
