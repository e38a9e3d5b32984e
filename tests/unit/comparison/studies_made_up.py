"""Outcomes of studies with made-up scores, for tests of what is said across them."""

from typing import Any

from peft_ablation.comparison.suite import Outcome
from peft_ablation.comparison.words import Words


def words(metric: str = "accuracy", higher: bool = True) -> Words:
    said = {
        "name": metric, "title": metric, "definition": f"what {metric} is", "compared": True,
        "higher_is_better": higher, "unit": "0 to 1", "digits": 2,
    }  # fmt: skip
    return Words(
        example="row", group="row", headline=metric, metrics={metric: said}, shown=(metric,),
        baselines={"majority": "commonest class, always"}, claims=(), extras=(),
    )  # fmt: skip


def outcome(
    study: str, scores: dict[str, float | None], *, said: Words | None = None, **by_arm: Any
) -> Outcome:
    """A study with these scores by arm; the first arm is the reference. `by_arm`: other columns."""
    said = said or words()
    reference, name = next(iter(scores)), said.headline
    rows = {
        arm: {
            "arm": arm, "reference_arm": reference, "honest_learning": True, "seeds": 2,
            "trainable_parameters": 10, "train_seconds": 1.5, f"majority_{name}": 0.25,
            name: score, f"{name}_low": None, f"{name}_high": None,
            **{f"{name}_difference{end}": None for end in ("", "_low", "_high")},
            **by_arm.get(arm, {}),
        }
        for arm, score in scores.items()
    }  # fmt: skip
    theirs = scores[reference]
    estimates = {
        arm: {
            "score": parts(score),
            "difference": None if arm == reference or None in (score, theirs) else parts(
                (score or 0) - (theirs or 0)
            ),
        }
        for arm, score in scores.items()
    }  # fmt: skip
    return Outcome(study, said, rows, estimates)


def parts(value: float | None, variance: float = 0.0) -> dict[str, float] | None:
    """An estimate whose variance comes from very many groups alone."""
    if value is None:
        return None
    return {
        "value": value, "of_groups": variance, "groups_df": 1e9, "of_seeds": 0.0, "seeds_df": 0.0,
        "noise": 0.0,
    }  # fmt: skip
