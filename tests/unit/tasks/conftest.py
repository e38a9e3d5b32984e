"""Tiny bases and pictures, made once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_studies import PictureStudy, cached, make_base, paint


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny base by its kind."""
    root, made = tmp_path_factory.mktemp("bases"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_base(root / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> PictureStudy:
    """Pictures of three colours: 8 of each to train with, 4 to validate, 6 to test."""
    root = tmp_path_factory.mktemp("pictures")
    paint(root / "source", lambda split, name: {"train": 8, "val": 4, "test": 6}[split])
    return cached(root / "source", root / "cache")
