"""The `tune:` section: the same number of trials for every arm, and what is refused in one line."""

import re
from typing import Any

import pytest

from peft_ablation.config.loading import load_config
from peft_ablation.config.runs import runs_needed
from peft_ablation.errors import InputError

NONE = {"method": "none"}


def grids(tune: dict[str, Any], **overrides: Any) -> dict[str, tuple[float, ...]]:
    site = {"study": "phantom_cxr", "overrides": {"tune": tune, **overrides}}
    return load_config(site).grids


def test_a_study_without_tune_has_no_trials() -> None:
    config = load_config({"study": "phantom_cxr"})
    assert config.grids == {}
    assert config.study.tune is None


def test_every_trained_arm_tries_the_same_rates() -> None:
    found = grids({"learning_rate": [1e-2, 1e-3]}, arms={"untrained": NONE})
    assert found == dict.fromkeys(("fft", "lora_vision", "lora_text"), (1e-3, 1e-2))


def test_factors_are_of_the_arm_s_own_rate() -> None:
    found = grids({"factors": [0.1, 1, 3]}, arms={"fft": {"learning_rate": 0.1}})
    # In floats 0.1 times 0.1 is 0.010000000000000002, and 3 times it 0.30000000000000004.
    assert found["fft"] == (0.01, 0.1, 0.3)
    assert found["lora_text"] == (1e-3, 1e-2, 3e-2)


def test_an_arm_s_own_rates_take_the_place_of_the_shared_ones() -> None:
    found = grids({"learning_rate": [1, 2], "arms": {"fft": [4e-4, 1e-4]}})
    assert found == {"fft": (1e-4, 4e-4), "lora_vision": (1, 2), "lora_text": (1, 2)}
    by_arm = {"fft": [1], "lora_vision": [2], "lora_text": [3]}
    assert grids({"arms": by_arm}) == {"fft": (1,), "lora_vision": (2,), "lora_text": (3,)}


SWEPT = {"s": {"method": "full", "sweep": {"learning_rate": [1, 2]}}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"tune": {"learning_rate": []}}, "tune.learning_rate: found [], expected at least 1 item"),
        (
            {"tune": {"learning_rate": [1e-3, 0.001]}},
            "tune.learning_rate: found 0.001 more than once; a trial is made once",
        ),
        ({"tune": {"factors": [2, 2.0]}}, "tune.factors: found 2 more than once; .*"),
        ({"tune": {"learning_rate": [1, 0]}}, "tune.learning_rate.1: found 0, .* greater than 0"),
        ({"tune": {"factors": [1, -1]}}, "tune.factors.1: found -1, .* greater than 0"),
        ({"tune": {"factors": [float("inf")]}}, "tune.factors.0: found inf, .* finite number.*"),
        (
            {"tune": {"learning_rate": [1, 2], "arms": {"fft": [1]}}},
            r"tune: found different numbers of trials \(fft 1, lora_vision 2, lora_text 2\), .*",
        ),
        (
            {"tune": {"learning_rate": [1], "arms": {"ffft": [1]}}},
            "tune.arms: found 'ffft', expected an arm: fft, .*; did you mean 'fft'.*",
        ),
        (
            {"tune": {"learning_rate": [1], "arms": {"no": [1]}}, "arms": {"no": NONE}},
            "tune.arms.no: its method trains nothing; take it away",
        ),
        ({"tune": {}}, "tune: found no learning_rate, no factors and no arms.fft; .*"),
        ({"tune": {"factors": [1], "learning_rate": [1]}}, "tune: .* both set: keep one .*"),
        ({"tune": {"factors": [1], "epochs": 0}}, "tune.epochs: found 0, .* or equal to 1"),
        (
            {"tune": {"factors": [1], "epochs": 5}},
            "tune.epochs: found 5, expected at most train.epochs, 4",
        ),
        (
            {"tune": {"factors": [1]}, "arms": SWEPT},
            r"arms.s.sweep.learning_rate: a study with tune chooses each arm's rate by itself; .*",
        ),
        ({"tune": {"rates": [1]}}, "tune.rates: unknown key, allowed here: arms, epochs, .*"),
    ],
)
def test_wrong_tuning_is_refused_in_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_config({"study": "phantom_cxr", "overrides": overrides})
    pattern = message if "\\" in message else message.replace("[", r"\[").replace("]", r"\]")
    assert re.fullmatch(f"study phantom_cxr: {pattern}", str(refused.value)), refused.value


def test_a_trial_starts_from_no_run_that_nobody_else_needs() -> None:
    start = {"study": "phantom_cxr", "arm": "lora_text"}
    two = {"method": "lora", "targets": "text", "learning_rate": 1e-3, "init_from": start}

    def load(trials: int, **of_start: Any) -> None:
        arm = two | {"init_from": start | of_start}
        overrides = {"arms": {"two": arm}, "tune": {"factors": [1], "seed": trials}}
        runs_needed(load_config({"study": "phantom_cxr", "overrides": overrides}))

    load(1)
    load(100, seed=0)
    with pytest.raises(InputError, match=r"tune.seed: found 100, .* which has 0, 1: set tune"):
        load(100)
