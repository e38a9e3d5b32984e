"""The site: where things are on this machine or cluster."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from peft_ablation.config.section import Section

Folder = Annotated[str, StringConstraints(min_length=1)]


class Cloud(Section):
    """Google Cloud: who pays, what is read, and how long to wait."""

    billing_project: str | None = None
    """Project billed for the query and for egress (requester pays)."""
    metadata_table: str = "physionet-data.mimic_cxr_jpg.metadata"
    """BigQuery table of image metadata."""
    chexpert_table: str = "physionet-data.mimic_cxr_jpg.chexpert"
    """BigQuery table of CheXpert labels."""
    images_url: str = "gs://mimic-cxr-jpg-2.1.0.physionet.org"
    """Root that holds `files/p10/…`; any fsspec URL."""
    maximum_bytes_billed: int = Field(2_000_000_000, gt=0)
    """BigQuery refuses the query above this."""
    egress_usd_per_gb: float = Field(0.12, ge=0)
    """Price of internet egress, for the estimate of `plan_download`."""
    egress_source: str = (
        "cloud.google.com/storage/pricing-examples, data transfer to the Americas and EMEA"
    )
    """Where that price was read."""
    connect_timeout: float = Field(10, gt=0)
    """Seconds to connect."""
    read_timeout: float = Field(30, gt=0)
    """Seconds without a byte before a request is tried again."""
    deadline: float = Field(300, gt=0)
    """Seconds in all for one query or one object, retries included."""
    requests_in_flight: int = Field(32, ge=1)
    """Objects fetched at the same time by one job."""
    keep_originals: str | None = None
    """Folder to keep fetched images in, laid out like the data set, and to read them from the
    next time; null keeps none."""


class OfStudy(Section):
    """What holds for one study alone, wherever it is run: alone, in a suite, or for another."""

    data_root: str | None = None
    """Where this study's data are: below the site's `data_root`, unless absolute or a URL."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Merged over this study, after the site's own `overrides`."""

    def below(self, root: str | None) -> str | None:
        """Return the study's data root, given the site's."""
        if self.data_root is None or root is None:
            return self.data_root or root
        if "://" in self.data_root or Path(self.data_root).is_absolute():
            return self.data_root
        return f"{root.rstrip('/')}/{self.data_root}"


class Site(Section):
    """This machine or cluster."""

    study: str = "phantom_cxr"
    """Name of a file in `config/studies/` without `.yaml`, or a path to a study file."""
    suite: str | None = None
    """Name of a file in `config/suites/` without `.yaml`, or a path to a suite file: its studies
    are run, in place of `study`."""
    data_root: str | None = None
    """Root of the data that a study reads: a MIMIC-CXR-JPG tree, a folder of class folders, …"""
    results: Folder = "results"
    """Folder for everything a study makes."""
    bases: Folder = "resources/bases"
    """Folder for pretrained bases, shared by studies."""
    datasets: Folder = "resources/datasets"
    """Folder for data sets fetched from a hub, shared by studies."""
    tensorboard: bool = False
    """Also write TensorBoard event files beside each run's history."""
    cloud: Cloud = Cloud()
    smoke: bool = False
    """Run the study's `smoke:` settings, small enough for two CPU cores, under `<study>.smoke`."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Merged over the study, for smoke runs; the results folder does not change by itself. Over
    each study of a suite."""
    studies: dict[str, OfStudy] = Field(default_factory=dict)
    """What holds for one study alone, by its name."""
