"""MIMIC-CXR-JPG: cohort, sample and mini-reports, from a tree on disk or from Google Cloud.

`data.source: mimic` is a tree where the site sets `data_root`, else BigQuery and Cloud Storage.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from peft_ablation.config.section import Section, Seed
from peft_ablation.errors import InputError
from peft_ablation.sources import DataSettings, Source
from peft_ablation.sources.mimic.labels import LABELS

CSV_TABLES = ("metadata", "chexpert")
_HOW = "set data_root to a MIMIC-CXR-JPG tree, e.g. --config data_root=/data/mimic-cxr-jpg"


class MimicData(DataSettings):
    """Which images count."""

    views: tuple[str, ...] = Field(("AP", "PA"), min_length=1)
    """Values of ViewPosition to keep."""
    limit: int | None = Field(None, gt=0)
    """Keep only the first so many images, in the total order of the query."""


class Sample(Section):
    """How `sample_5000_per_label` draws images."""

    strategy: Literal["rarest_first", "first_open_quota"] = "rarest_first"
    """`rarest_first`: labels from rarest to commonest, each filled up to its quota;
    `first_open_quota`: as published, each image charged to its first label with an open quota."""
    quota: int = Field(5000, gt=0)
    """Positives wanted per label; a label with fewer gives all it has."""
    count_values: tuple[Literal[-1, 0, 1], ...] = Field((1,), min_length=1)
    """Label values that count as a positive; as published: 1 and -1."""
    seed: Seed = 42
    """Seed of the draw."""
    absent_labels: Literal["fail", "skip"] = "fail"
    """A label without one positive in the cohort: stop, or go on without it (counted as 0)."""


class Report(Section):
    """How labels become a mini-report."""

    template: Literal["corrected", "plain", "as_published"] = "corrected"
    """Template set, a file of `peft_ablation/sources/mimic/templates/`."""
    unmentioned: Literal["drop", "sentence"] = "drop"
    """A row that mentions no label at all: drop it (counted), or write the template's sentence."""


class Mimic(Source):
    """MIMIC-CXR-JPG, wherever this site has it."""

    Settings = MimicData
    settings: MimicData
    sections: ClassVar[Mapping[str, type[Section]]] = {"sample": Sample, "report": Report}
    rules = "mimic.smk"
    terms = (
        "Trained on MIMIC-CXR-JPG, which is under PhysioNet's credentialed data use agreement: its "
        "data must not be shared with anyone else, and a model can repeat what it saw. Do not put "
        "these weights on a public hub; PhysioNet takes such models, under the same agreement."
    )
    group = "subject"
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "subject": ("subject_id",),
        "study": ("subject_id", "study_id"),
        "image": ("dicom_id",),
    }

    subgroups = ("view_position", "charged_label", *LABELS)

    def check(self) -> None:
        """Raise `InputError` where a tree is to be read and is not there."""
        if self.cloud is not None:
            return
        if self.root is None:
            raise InputError(
                f"config: data_root: not set, but study {self.study} reads a tree; {_HOW}"
            )
        if not Path(self.root).is_dir():
            raise InputError(f"config: data_root: no folder {self.root}; {_HOW}")
        for table in CSV_TABLES:
            if tree_csv(self.root, table) is None:
                raise InputError(
                    f"config: data_root: {self.root} holds no mimic-cxr-2.0.0-{table}.csv.gz; "
                    f"{_HOW}"
                )

    @classmethod
    def task_defaults(cls, study: Mapping[str, Any]) -> dict[str, Any]:
        """Texts are read back by the template that wrote them."""
        return {"findings": (study.get("report") or {}).get("template", "corrected")}

    @property
    def cloud(self) -> dict[str, Any] | None:
        """Settings of Google Cloud, where no tree is given."""
        return self.site.cloud.model_dump(mode="json") if self.site.data_root is None else None

    def inputs(self) -> Mapping[str, str]:
        """Return the CSVs of the tree; none where BigQuery answers."""
        if self.cloud is not None or self.root is None:
            return {}
        return {table: str(tree_csv(self.root, table)) for table in CSV_TABLES}


def tree_csv(root: str | Path, table: str) -> Path | None:
    """Return the path of `mimic-cxr-2.0.0-<table>.csv[.gz]` in a tree, or None if it is not there.

    Any version number is accepted (2.0.0 is what MIMIC-CXR-JPG 2.0.0 and 2.1.0 both ship).
    """
    found = sorted(Path(root).glob(f"mimic-cxr-*-{table}.csv*"))
    wanted = [path for path in found if path.name.endswith((".csv.gz", ".csv"))]
    return wanted[0] if wanted else None


SOURCE = Mimic
