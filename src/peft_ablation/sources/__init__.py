"""Sources: where examples come from, one module or folder each.

A source turns anything into one table, `cohort/examples.parquet` (see
`peft_ablation.data.examples`), by the rules of one file of `workflow/rules/sources/`. Everything
after it reads that table and asks no more where it came from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from peft_ablation.config.section import Section
from peft_ablation.plugins import plugin

if TYPE_CHECKING:
    import polars as pl

    from peft_ablation.config.site import Site


class DataSettings(Section):
    """Keys of a study's `data:` section that every source has."""

    source: str
    """Where examples come from: a module of `peft_ablation.sources`, or the dotted name of one's
    own."""
    public: bool = False
    """True only where images, texts and ids may be shown in figures and reports."""


class Source:
    """A kind of source, bound to the `data:` section and the site."""

    Settings: ClassVar[type[DataSettings]] = DataSettings
    sections: ClassVar[Mapping[str, type[Section]]] = {}
    """Further sections of a study that this source reads."""
    rules: ClassVar[str] = "read_examples.smk"
    """File of `workflow/rules/sources/` that makes the examples table."""
    site_keys: ClassVar[tuple[str, ...]] = ("data_root",)
    """Keys of the site that `read` looks at; a change of one reads the examples again."""
    terms: ClassVar[str] = (
        "The study does not say that its data are public (`data.public`): ask whoever gave them "
        "whether a model trained on them may be shared, and with whom."
    )
    """What stands on the model cards of a study whose data are not public."""
    group: str = "group"
    """What a `group` of the examples table is, in the singular."""
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {"group": ("group",)}
    """What a split can keep together: name → columns of the examples table; the first by default.
    The last one is a single row."""

    subgroups: ClassVar[tuple[str, ...]] = ()
    """Columns of the examples table by which scores may be told apart, besides `columns`."""

    def __init__(self, settings: DataSettings, site: "Site", results: str) -> None:
        """Bind to the section, the site, and the study's folder of results."""
        self.settings, self.site, self.results = settings, site, results

    @property
    def study(self) -> str:
        """Name of the study."""
        return Path(self.results).name

    def check(self) -> None:
        """Raise `InputError` where the data cannot be there; looks at names of files alone."""

    @classmethod
    def task_defaults(cls, study: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings that the raw study means for its task where it does not set them."""
        return {}

    @property
    def root(self) -> str | None:
        """Folder or URL that image paths of the examples table are relative to; None: a cloud."""
        return self.site.data_root

    @property
    def cloud(self) -> dict[str, Any] | None:
        """Settings of the cloud, where images come from there."""
        return None

    @property
    def columns(self) -> frozenset[str] | None:
        """Columns of the examples table besides its first four; None where reading alone tells."""
        return None

    @property
    def fetched(self) -> Mapping[str, str]:
        """Inputs that its rules fetch from elsewhere: where each is kept → its name there."""
        return {}

    def inputs(self) -> Mapping[str, str]:
        """Return files whose change reads the examples again, by name."""
        return {}

    def read(self) -> "tuple[pl.DataFrame, dict[str, Any]]":
        """Return the examples table and an account of it; for `read_examples.smk`."""
        raise NotImplementedError


def source_class(name: str) -> type[Source]:
    """Return the class `SOURCE` of a source's module; raises `InputError` for an unknown name."""
    return cast("type[Source]", plugin("peft_ablation.sources", name, "SOURCE"))


def read_examples(
    settings: Mapping[str, Any],
    site: Mapping[str, Any],
    *,
    output: str | Path,
    account: str | Path,
) -> None:
    """Read the examples of a `data:` section (plain values) and write table and account."""
    from peft_ablation.artifacts import write_json, write_table
    from peft_ablation.config.site import Site
    from peft_ablation.data.examples import checked_examples

    kind = source_class(settings["source"])
    source = kind(kind.Settings.model_validate(settings), Site.model_validate(site), "")
    table, told = source.read()
    write_table(checked_examples(table, settings["source"]), output)
    write_json(account, told)
