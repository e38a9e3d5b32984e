"""A made-up population of chest phantoms, laid out as a MIMIC-CXR-JPG tree.

Subjects, studies, labels and pixels are invented and openly shareable. Study ids begin with 9 and
dicom ids with eight zeros, so that none can be taken for MIMIC's; subject ids must keep MIMIC's
form (eight digits, `p10` to `p19`) for the folders to be named alike, but belong to nobody.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from peft_ablation.artifacts import whole_file, whole_folder, write_text
from peft_ablation.logs import bars_hidden
from peft_ablation.sources.mimic.labels import LABELS, NO_FINDING, Mention, display_name
from peft_ablation.sources.phantom.anatomy import NOT_MENTIONED, Labels, draw_traits, render

METADATA_COLUMNS: Final = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
"""Header of `mimic-cxr-2.0.0-metadata.csv.gz`, as on PhysioNet."""

CHEXPERT_COLUMNS: Final = (
    "subject_id",
    "study_id",
    *sorted(display_name(label) for label in LABELS),
)
"""Header of `mimic-cxr-2.0.0-chexpert.csv.gz`, as on PhysioNet (labels alphabetical)."""

SPLIT_COLUMNS: Final = ("dicom_id", "study_id", "subject_id", "split")
"""Header of `mimic-cxr-2.0.0-split.csv.gz`, as on PhysioNet."""

PREVALENCES: Final[dict[str, tuple[float, float, float]]] = {
    "Atelectasis": (0.17, 0.045, 0.005),
    "Cardiomegaly": (0.17, 0.030, 0.07),
    "Consolidation": (0.07, 0.025, 0.04),
    "Edema": (0.12, 0.050, 0.11),
    "Enlarged_Cardiomediastinum": (0.06, 0.035, 0.03),
    "Fracture": (0.06, 0.010, 0.005),
    "Lung_Lesion": (0.06, 0.010, 0.005),
    "Lung_Opacity": (0.18, 0.020, 0.015),
    "Pleural_Effusion": (0.19, 0.025, 0.12),
    "Pleural_Other": (0.05, 0.010, 0.005),
    "Pneumonia": (0.09, 0.060, 0.10),
    "Pneumothorax": (0.07, 0.010, 0.18),
    "Support_Devices": (0.22, 0.005, 0.015),
}
"""Shares of studies with the finding present, suspected and denied.

After the label counts of MIMIC-CXR-JPG (Johnson et al. 2019, table 3), but labels rarer than 5 %
are raised to 5-7 %, so that a few thousand studies hold enough of each."""

# Loadings on what findings have in common: heart failure, infection, volume loss, injury, tumour.
_LOADINGS: Final[dict[str, tuple[float, float, float, float, float]]] = {
    "Atelectasis": (0.1, 0.1, 0.6, 0.1, 0.0),
    "Cardiomegaly": (0.65, 0.0, 0.1, 0.0, 0.0),
    "Consolidation": (0.0, 0.65, 0.2, 0.0, 0.1),
    "Edema": (0.7, 0.1, 0.1, 0.0, 0.0),
    "Enlarged_Cardiomediastinum": (0.4, 0.0, 0.0, 0.2, 0.3),
    "Fracture": (0.0, 0.0, 0.0, 0.7, 0.0),
    "Lung_Lesion": (0.0, 0.0, 0.0, 0.0, 0.7),
    "Lung_Opacity": (0.1, 0.5, 0.3, 0.0, 0.2),
    "Pleural_Effusion": (0.45, 0.1, 0.45, 0.1, 0.15),
    "Pleural_Other": (0.0, 0.1, 0.1, 0.3, 0.4),
    "Pneumonia": (0.0, 0.75, 0.0, 0.0, 0.0),
    "Pneumothorax": (0.0, 0.0, 0.1, 0.6, 0.1),
    "Support_Devices": (0.3, 0.1, 0.45, 0.25, 0.0),
}

# Findings that a report rules out mostly because of another that it sees.
_RULED_OUT_BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "Pneumothorax": ("Support_Devices", "Fracture"),
    "Edema": ("Cardiomegaly",),
    "Pneumonia": ("Atelectasis",),
    "Pleural_Effusion": ("Lung_Opacity", "Pneumonia"),
    "Consolidation": ("Lung_Opacity",),
    "Cardiomegaly": ("Pleural_Effusion",),
}

_VIEWS: Final[dict[str, tuple[str, str]]] = {
    "AP": ("antero-posterior", "Recumbent"),
    "PA": ("postero-anterior", "Erect"),
    "LATERAL": ("lateral", "Erect"),
    "LL": ("left lateral", "Erect"),
}


@dataclass(frozen=True)
class Population:
    """Studies and images of invented subjects, in the order of the tree.

    `subject` (S,), `labels` int8 (S, 14) and `subject_split` belong to studies; `study_of` (N,)
    and `view` (N,) to images.
    """

    subject: npt.NDArray[np.int64]
    labels: Labels
    split: tuple[str, ...]
    study_of: npt.NDArray[np.intp]
    view: tuple[str, ...]

    @property
    def study_id(self) -> npt.NDArray[np.int64]:
        """Id of each study."""
        return 90_000_001 + 7 * np.arange(len(self.subject), dtype=np.int64)

    @property
    def dicom_id(self) -> list[str]:
        """Id of each image, from its study and its place in it."""
        ids = []
        for number, study in enumerate(self.study_of.tolist()):
            digest = hashlib.sha256(f"phantom {study} {number}".encode()).hexdigest()
            ids.append("-".join(["0" * 8, *(digest[8 * k : 8 * k + 8] for k in range(4))]))
        return ids


def draw_population(subjects: int, rng: np.random.Generator) -> Population:
    """Invent `subjects` subjects with their studies, images, views and labels."""
    ids = 10_000_000 + (np.arange(subjects) * 10_000_000 // subjects) + 77
    studies = np.minimum(1 + rng.geometric(0.42, subjects) - 1, 8)
    subject = np.repeat(ids, studies)
    labels = _labels(np.repeat(np.arange(subjects), studies), rng)
    share = rng.random(subjects)
    split = np.where(share < 0.02, "test", np.where(share < 0.03, "validate", "train"))
    sick = (labels == Mention.PRESENT)[:, :-1].sum(axis=1)
    portable = rng.random(len(subject)) < np.where(
        sick == 0, 0.25, 0.55 + 0.08 * np.minimum(sick, 4)
    )
    again = rng.random(len(subject)) < 0.12
    side = rng.random(len(subject))
    study_of: list[int] = []
    views: list[str] = []
    for study in range(len(subject)):
        frontal = "AP" if portable[study] else "PA"
        shown = [frontal] * (1 + int(again[study]))
        if not portable[study] and side[study] < 0.9:
            shown.append("LATERAL" if side[study] < 0.6 else "LL")
        study_of += [study] * len(shown)
        views += shown
    return Population(
        subject=subject.astype(np.int64),
        labels=labels,
        split=tuple(np.repeat(split, studies).tolist()),
        study_of=np.array(study_of, dtype=np.intp),
        view=tuple(views),
    )


def _labels(subject: npt.NDArray[np.intp], rng: np.random.Generator) -> Labels:
    """Draw the labels of studies, int8 (S, 14): findings that go together, and persist."""
    names = list(PREVALENCES)
    loadings = np.array([_LOADINGS[name] for name in names])
    count = len(subject)
    chronic = rng.standard_normal((subject.max() + 1, loadings.shape[1]))[subject]
    acute = rng.standard_normal((count, loadings.shape[1]))
    own = rng.standard_normal((count, len(names)))
    common = (0.7 * chronic + 0.7 * acute) @ loadings.T
    latent = common + own * np.sqrt(np.maximum(1 - (loadings**2).sum(axis=1), 0.1))
    labels = np.full((count, len(LABELS)), NOT_MENTIONED, dtype=np.int8)
    rank = (-latent).argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") / count
    for column, name in enumerate(names):
        present, suspected, _ = PREVALENCES[name]
        row = LABELS.index(name)
        labels[rank[:, column] < present + suspected, row] = Mention.SUSPECTED
        labels[rank[:, column] < present, row] = Mention.PRESENT
    positive = labels == Mention.PRESENT
    shown = positive | (labels == Mention.SUSPECTED)
    pathology = shown.copy()
    pathology[:, [LABELS.index("Support_Devices"), LABELS.index(NO_FINDING)]] = False
    labels[~pathology.any(axis=1) & (rng.random(count) < 0.93), LABELS.index(NO_FINDING)] = 1
    for name in names:
        row = LABELS.index(name)
        beside = [LABELS.index(other) for other in _RULED_OUT_BESIDE.get(name, ())]
        reason = positive[:, beside].any(axis=1)
        denied = PREVALENCES[name][2]
        likely = np.where(reason, 0.75, 0.0)
        rest = max(denied - float(likely.mean()), 0.002)
        chance = np.where(reason, likely, rest)
        labels[~shown[:, row] & (rng.random(count) < chance), row] = Mention.ABSENT
    return labels


def render_tree(root: str | Path, *, subjects: int, size: int, seed: int) -> None:
    """Write a phantom population as a MIMIC-CXR-JPG tree under `root`.

    Makes `mimic-cxr-2.0.0-{metadata,chexpert,split}.csv.gz` with PhysioNet's headers,
    `files/p1x/p…/s…/….jpg` (grey, `size` x `size`) and `SHA256SUMS.txt`. The same arguments give
    the same bytes (one Pillow version).
    """
    folder = Path(root)
    rng = np.random.default_rng([seed, subjects])
    population = draw_population(subjects, rng)
    dicoms = population.dicom_id
    studies = population.study_id
    paths = [
        f"files/p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.jpg"
        for subject, study, dicom in zip(
            population.subject[population.study_of].tolist(),
            studies[population.study_of].tolist(),
            dicoms,
            strict=True,
        )
    ]
    with whole_folder(folder / "files") as files:
        sums = _write_images(files.parent, files.name, paths, population, size, rng)
    tables = {
        "metadata": (METADATA_COLUMNS, _metadata(population, dicoms, size, rng)),
        "chexpert": (CHEXPERT_COLUMNS, _chexpert(population)),
        "split": (SPLIT_COLUMNS, _split(population, dicoms)),
    }
    lines = []
    for name, (header, rows) in tables.items():
        file = f"mimic-cxr-2.0.0-{name}.csv.gz"
        packed = _packed_csv(header, rows)
        with whole_file(folder / file) as part:
            part.write_bytes(packed)
        lines.append(f"{hashlib.sha256(packed).hexdigest()} {file}")
    lines += [f"{digest} {path}" for digest, path in zip(sums, paths, strict=True)]
    write_text(folder / "SHA256SUMS.txt", "\n".join(lines) + "\n")


def _write_images(
    parent: Path,
    name: str,
    paths: Sequence[str],
    population: Population,
    size: int,
    rng: np.random.Generator,
) -> list[str]:
    """Write the JPEGs and return their SHA-256 in order.

    Images of one study share its findings' traits but for small changes, as two exposures would.
    """
    traits = draw_traits(rng, len(population.subject))[population.study_of]
    fresh = draw_traits(rng, len(paths))
    traits = np.abs(traits + 0.1 * (fresh - 0.5))
    traits = np.where(traits >= 1, np.float32(1.999) - traits, traits)
    traits[:, len(LABELS) + 1] = fresh[:, len(LABELS) + 1]
    lateral = np.array([view in ("LATERAL", "LL") for view in population.view])
    labels = population.labels[population.study_of]
    sums = []
    for start in tqdm(range(0, len(paths), 512), desc="render_phantom", disable=bars_hidden()):
        rows = slice(start, start + 512)
        pixels = render(
            labels[rows], rng, size, "radiograph", lateral=lateral[rows], traits=traits[rows]
        )
        for path, image in zip(paths[rows], pixels, strict=True):
            file = parent / name / Path(path).relative_to("files")
            file.parent.mkdir(parents=True, exist_ok=True)
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, format="JPEG", quality=95)
            file.write_bytes(encoded.getvalue())
            sums.append(hashlib.sha256(encoded.getvalue()).hexdigest())
    return sums


def _metadata(
    population: Population, dicoms: Sequence[str], size: int, rng: np.random.Generator
) -> Iterable[tuple[object, ...]]:
    days = rng.integers(0, 28, len(population.subject)).tolist()
    for dicom, study, view in zip(
        dicoms, population.study_of.tolist(), population.view, strict=True
    ):
        meaning, orientation = _VIEWS[view]
        procedure = "CHEST (PORTABLE AP)" if view == "AP" else "CHEST (PA AND LAT)"
        yield (
            dicom,
            population.subject[study],
            population.study_id[study],
            procedure,
            view,
            size,
            size,
            21800101 + 10000 * (study % 20) + days[study],
            "120000.000",
            procedure,
            meaning,
            orientation,
        )


def _chexpert(population: Population) -> Iterable[tuple[object, ...]]:
    order = sorted(range(len(LABELS)), key=lambda row: display_name(LABELS[row]))
    for study, values in enumerate(population.labels.tolist()):
        cells = ["" if values[row] == NOT_MENTIONED else f"{values[row]:.1f}" for row in order]
        yield (population.subject[study], population.study_id[study], *cells)


def _split(population: Population, dicoms: Sequence[str]) -> Iterable[tuple[object, ...]]:
    for dicom, study in zip(dicoms, population.study_of.tolist(), strict=True):
        yield dicom, population.study_id[study], population.subject[study], population.split[study]


def _packed_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a gzipped CSV without name or time in its header, so that its bytes repeat."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)
