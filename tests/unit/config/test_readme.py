"""`config/README.md` explains every key of site and study, and no other, with its default."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from keys import KINDS, Key, own_keys, owners, site_keys, study_keys, suite_keys

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([\w.<>]+)` \| (.*?) \| .*? \| .*? \|$", re.MULTILINE)
"""A row of a table of keys: key, default, meaning, allowed."""
OF_FILES = {"extends", "smoke", "arms.<name>.sweep"}
"""Keys that are read before the study is checked: no model has them."""


def sections() -> dict[tuple[str, frozenset[str]], dict[str, str]]:
    """Default by key of each section, by what it is about: site, study, or kind and names.

    A heading says so: `## The site`, `## The study`, `### Task `captioning``, `### Sources `tree`,
    `mimic``. Sections below belong to the nearest heading above that does.
    """
    found: dict[tuple[str, frozenset[str]], dict[str, str]] = {}
    about: tuple[str, frozenset[str]] = ("", frozenset())
    for part in re.split(r"(?m)^(?=#)", TEXT):
        heading = part.partition("\n")[0].lstrip("# ")
        kind = heading.partition(" ")[0].lower().removesuffix("s")
        if kind in KINDS and "`" in heading:
            about = (kind, frozenset(re.findall(r"`(\w+)`", heading)))
        elif part.startswith("## "):
            about = (heading.removeprefix("The "), frozenset())
        elif part.startswith("### ") and about[0] in KINDS:
            about = ("study", frozenset())
        rows = found.setdefault(about, {})
        for key, default in ROW.findall(part):
            assert key not in rows, f"config/README.md explains {key} twice for {about}"
            rows[key] = default
    return found


def compare(rows: dict[str, str], expected: Iterable[Key], what: str) -> None:
    """Fail with the rows that are missing, wrong or too many."""
    wanted = {key.name: key for key in expected}
    missing = [wanted[name].row for name in wanted if name not in rows]
    assert not missing, f"config/README.md lacks for {what}:\n" + "\n".join(missing)
    assert not rows.keys() - wanted.keys(), f"config/README.md: no such keys of {what}"
    for name, key in wanted.items():
        written = rows[name].strip("`")
        if key.default != "required" and name != "overrides":
            assert written in (key.default, key.default.strip('"')), key.row


def test_every_key_of_the_site_is_explained_with_its_default() -> None:
    compare(sections()["site", frozenset()], site_keys(), "the site")


def test_every_key_of_a_suite_is_explained_with_its_default() -> None:
    compare(sections()["suite", frozenset()], suite_keys(), "a suite")


def test_every_key_of_all_studies_is_explained_with_its_default() -> None:
    rows = sections()["study", frozenset()]
    assert rows.keys() >= OF_FILES
    kept = {name: default for name, default in rows.items() if name not in OF_FILES}
    compare(kept, study_keys(), "the study")


@pytest.mark.parametrize(("kind", "name"), owners())
def test_keys_of_tasks_sources_and_methods_are_explained_with_their_defaults(
    kind: str, name: str
) -> None:
    rows: dict[str, str] = {}
    for (of, names), found in sections().items():
        if of == kind and name in names:
            rows |= found
    compare(rows, own_keys(kind, name), f"{kind} {name}")


def test_no_section_is_about_what_does_not_exist() -> None:
    known = {(kind, name) for kind, name in owners()}
    told = {(kind, name) for kind, names in sections() for name in names}
    assert told <= known


def test_sections_named_for_a_kind_are_told_apart() -> None:
    """The reading of headings itself: a task's keys are not those of all studies."""
    found = sections()
    assert "task.max_tokens" in found["task", frozenset({"captioning"})]
    assert "task.max_tokens" not in found["study", frozenset()]
