"""A suite: studies that are run as one, with one table and one figure across them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from peft_ablation.config.files import found_file, read_mapping, validated
from peft_ablation.config.loading import OWN_STUDIES, STUDIES, Config, load_config, merged
from peft_ablation.config.runs import runs_needed
from peft_ablation.config.section import Section
from peft_ablation.config.site import OfStudy, Site
from peft_ablation.errors import InputError

SUITES: Final = Path(__file__).resolve().parents[1] / "suites"
"""Folder of the shipped suites: `config/suites/` of a checkout, package data where installed."""

OWN_SUITES: Final = Path("config", "suites")
"""Folder of a person's own suites in the working directory; they go before the shipped ones."""


class Member(OfStudy):
    """One study of a suite, and what holds for it alone."""

    study: str
    """Study, as the site's `study` names it."""


def _named(value: Any) -> Any:
    return {"study": value} if isinstance(value, str) else value


NamedMember = Annotated[Member, BeforeValidator(_named, json_schema_input_type=Member | str)]


class SuiteFile(Section):
    """A list of studies."""

    title: str | None = None
    """What table and figure are called; null: the suite's name."""
    studies: tuple[NamedMember, ...] = Field(min_length=1)
    """The studies in the order of the table, each a name or `study:` with what differs in it."""


@dataclass(frozen=True)
class Suite:
    """A suite that was read and checked, with the config of each study."""

    name: str
    """Name of the suite; with `.smoke` where smoke settings are run."""
    title: str
    results: str
    """Folder of what is made across the studies."""
    studies: tuple[Config, ...]
    """In the order of the table."""

    @property
    def by_need(self) -> tuple[Config, ...]:
        """The studies in such an order that those which others start from come first."""
        found: dict[str, Config] = {}
        members = {config.name: config for config in self.studies}

        def visit(config: Config) -> None:
            for start in runs_needed(config).values():
                if start.config.name != config.name:
                    visit(start.config)
            if config.name in members:
                found.setdefault(config.name, members[config.name])

        for config in self.studies:
            visit(config)
        return tuple(found.values())


def load_suite(
    site: Mapping[str, Any],
    suites: Sequence[str | Path] = (OWN_SUITES, SUITES),
    studies: Sequence[str | Path] = (OWN_STUDIES, STUDIES),
) -> Suite:
    """Validate the site mapping, the suite it names and each of its studies.

    Overrides of the site go over each study, then those of the suite file for it, then the site's
    `studies`. Raises `InputError` with one line for an unknown suite or study, an empty suite, two
    studies of one name, and studies whose intervals are of different levels.
    """
    told = validated(Site, site, "config")
    path, name = found_file("suite", told.suite or "", [Path(folder) for folder in suites])
    where = f"suite {name}"
    content = validated(SuiteFile, read_mapping(path, f"suite {path}"), where)
    files: dict[str, Path] = {}
    for member in content.studies:
        try:
            file, study = found_file("study", member.study, [Path(folder) for folder in studies])
        except InputError as error:
            told_of = str(error).removeprefix("config: study: ")
            raise InputError(f"{where}: studies: {told_of}") from None
        if study in files:
            raise InputError(
                f"{where}: studies: found two called {study!r}, {files[study]} and {file}, whose "
                "results would be one folder; take one out, or give its file another name"
            )
        files[study] = file
    alone = {
        study: _together(told.overrides, member, told.studies.get(study, OfStudy()))
        for study, member in zip(files, content.studies, strict=True)
    }
    whole = {
        **site, "suite": None, "overrides": {},
        "studies": {**dict(site.get("studies") or {}), **alone},
    }  # fmt: skip
    loaded = tuple(
        load_config({**whole, "study": member.study}, studies) for member in content.studies
    )
    _check_intervals(loaded, where)
    ending = ".smoke" if told.smoke else ""
    return Suite(
        name=f"{name}{ending}",
        title=content.title or name,
        results=f"{told.results.rstrip('/')}/suites/{name}{ending}",
        studies=loaded,
    )


def _together(overrides: Mapping[str, Any], member: Member, own: OfStudy) -> dict[str, Any]:
    """Return what holds for a study: of all studies, of the suite, of the site; later ones win."""
    return {
        "data_root": own.data_root or member.data_root,
        "overrides": merged(merged(overrides, member.overrides), own.overrides),
    }


def _check_intervals(studies: Sequence[Config], where: str) -> None:
    first, *others = studies
    for other in others:
        ours, theirs = first.study.score.confidence, other.study.score.confidence
        if ours != theirs:
            raise InputError(
                f"{where}: score.confidence: found {ours:g} in study {first.name} and {theirs:g} "
                f"in {other.name}, expected one for all: set it with overrides"
            )
