"""What tables, figures and pages say of a task: its metrics, baselines and nouns, as data.

`compare_arms` writes it beside the comparison, so that figures need no task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError, near_miss
from peft_ablation.tasks import NEAREST, Claim, Extra, Task


@dataclass(frozen=True)
class Words:
    """A task's own words."""

    example: str
    """What a test row is called, in the singular."""
    group: str
    """What is resampled together, in the singular."""
    headline: str
    """Metric that figures over cost, rank or rate show."""
    metrics: Mapping[str, Mapping[str, Any]]
    """`Metric.words` by name, the headline first among the compared ones."""
    shown: tuple[str, ...]
    """Metrics of the quality figure."""
    baselines: Mapping[str, str]
    """Title by name."""
    claims: tuple[Claim, ...]
    extras: tuple[Extra, ...]
    nearest: str | None = None
    """How near is measured, where the last baseline is that of the nearest training example."""
    controls: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`title` and `meaning` of the task's further controls, by name."""

    @classmethod
    def of(cls, task: Task, group: str, shown: Sequence[str] | None = None) -> "Words":
        """Read the words of a task; raises `InputError` where `shown` names no metric of it."""
        metrics = sorted(task.metrics, key=lambda metric: metric.name != task.headline)
        compared = [metric.name for metric in metrics if metric.compared]
        scores = [m.name for m in metrics if m.compared and m.higher_is_better]
        refuse_unknown("score.metrics", shown or (), compared)
        return cls(
            example=task.example,
            group=group,
            headline=task.headline,
            metrics={metric.name: metric.words() for metric in metrics},
            shown=tuple(shown or scores or compared),
            baselines={name: line.title for name, line in task.baselines().items()}
            | ({} if task.nearest is None else {NEAREST: task.nearest.title}),
            nearest=None if task.nearest is None else task.nearest.meaning,
            claims=tuple(task.claims),
            extras=tuple(task.extras),
            controls={
                name: {"title": control.title, "meaning": control.meaning}
                for name, control in task.controls().items()
            },
        )

    @classmethod
    def read(cls, path: str | Path) -> "Words":
        """Read what `compare_arms` wrote."""
        found = read_json(path)
        return cls(
            **{
                **found,
                "metrics": {metric["name"]: metric for metric in found["metrics"]},
                "baselines": {line["name"]: line["title"] for line in found["baselines"]},
                "shown": tuple(found["shown"]),
                "claims": tuple(Claim(**claim) for claim in found["claims"]),
                "extras": tuple(Extra(**extra) for extra in found["extras"]),
                "controls": {
                    told["name"]: {"title": told["title"], "meaning": told["meaning"]}
                    for told in found.get("controls", ())
                },
            }
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values; what has an order is a list, as JSON files have sorted keys."""
        controls = [{"name": name, **told} for name, told in self.controls.items()]
        return {
            **{key: value for key, value in asdict(self).items() if key != "controls"},
            "metrics": list(self.metrics.values()),
            "baselines": [{"name": name, "title": title} for name, title in self.baselines.items()],
            **({"controls": controls} if controls else {}),
        }

    @property
    def compared(self) -> list[str]:
        """Names of the compared metrics, the headline first."""
        return [name for name, said in self.metrics.items() if said["compared"]]

    def title(self, metric: str) -> str:
        """Return the metric as a heading says it."""
        return str(self.metrics[metric]["title"])

    def axis(self, metric: str) -> str:
        """Return the metric as an axis says it, with its range or unit."""
        title = self.title(metric)
        return f"{title[:1].upper()}{title[1:]} ({self.metrics[metric]['unit']})"

    @staticmethod
    def claim(claim: Claim) -> str:
        """Return the column of a claim's verdict."""
        return f"beats_{claim.baseline}_{claim.metric}"


def refuse_unknown(key: str, names: Iterable[str], compared: Sequence[str]) -> None:
    """Raise `InputError` for a name in a study's `key` that is no compared metric of the task."""
    for name in names:
        if name not in compared:
            raise InputError(
                f"{key}: found {name!r}, allowed with this task: {', '.join(compared)}"
                f"{near_miss(name, compared)}"
            )


def read_rows(table: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a table of arms; names stay texts, whatever they look like."""
    import polars as pl

    names = dict.fromkeys(("arm", "base", "reference_arm"), pl.String)
    return pl.read_csv(table, infer_schema_length=None, schema_overrides=names).to_dicts()
