"""Arms added up: base + Σ weight · change, to the bit; one arm at weight 1 is that arm."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from tiny_study import TinyStudy, arm_of, task_of

from peft_ablation.config.loading import load_config
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.scoring.predictions import write_predictions
from peft_ablation.tasks.captioning.git import load_model
from peft_ablation.training.selection import compose_runs

ARMS = {
    "vision": arm_of({"method": "lora", "targets": "vision", "r": 4, "learning_rate": 1e-3}),
    "text": arm_of({"method": "lora", "targets": "text", "r": 4, "learning_rate": 1e-3}),
    "both": arm_of({"method": "lora", "targets": "vision_and_text", "learning_rate": 1e-3}),
    "fft": arm_of({"method": "full", "learning_rate": 1e-3}),
}
TASK = task_of(max_new_tokens=16)
COST: dict[str, Any] = {
    "trainable_parameters": 10, "adapter_mb": 1.5, "train_seconds": 20.0, "evaluate_seconds": 1.0,
    "saving_seconds": 0.5, "waiting_seconds": 0.25, "peak_memory_mb": 100.0, "mean_memory_mb": 90.0,
    "reserved_peak_memory_mb": 0.0, "reserved_mean_memory_mb": 0.0, "energy_joules": 7.0,
    "memory_kind": "process_rss", "device": "cpu", "precision": "fp32",
}  # fmt: skip


class Runs:
    """A run of each arm whose weights have moved at random, and what is composed of them."""

    def __init__(self, study: TinyStudy, folder: Path) -> None:
        self.study, self.folder = study, folder
        for number, (name, arm) in enumerate(ARMS.items()):
            method = open_method(arm)
            model = method.apply(
                load_model(study.base), seed=number, heads=(), steps=1, batches=lambda: iter(())
            )
            generator = torch.Generator().manual_seed(number)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter.add_(0.05 * noise)
            self.model(name).mkdir(parents=True)
            method.save(model, self.model(name))
            cost = {**COST, "peak_memory_mb": 100.0 + number}
            (folder / name / "cost.json").write_text(json.dumps(cost))

    def model(self, name: str) -> Path:
        return self.folder / name / "model"

    def compose(self, name: str, of: dict[str, float]) -> dict[str, Any]:
        arm = arm_of({"method": "composed", "of": of})
        compose_runs(
            task=TASK, train=self.study.split("train"), base=self.study.base, arm_name=name,
            arm=arm, seed=0, parts={part: ARMS[part] for part in of},
            models=[self.model(part) for part in of],
            costs=[self.folder / part / "cost.json" for part in of], model=self.model(name),
            history=self.folder / name / "history.csv", cost=self.folder / name / "cost.json",
        )  # fmt: skip
        return arm

    def weights(self, name: str, arm: dict[str, Any]) -> dict[str, torch.Tensor]:
        loaded = open_method(arm).load(load_model, self.study.base, self.model(name))
        return {key: value.detach() for key, value in loaded.named_parameters()}

    @property
    def base(self) -> dict[str, torch.Tensor]:
        return {k: v.detach() for k, v in load_model(self.study.base).named_parameters()}

    def predictions(self, name: str, arm: dict[str, Any]) -> pl.DataFrame:
        output = self.folder / name / "predictions.parquet"
        write_predictions(
            task=TASK, arm=arm, model=self.model(name), base=self.study.base,
            train=self.study.split("train"), test=self.study.split("test"),
            assets={"images": self.study.index}, precision="fp32", threads=1, batch_size=8,
            shuffle_inputs=False, controls=False, probe=False, seed=0, output=output,
        )  # fmt: skip
        return pl.read_parquet(output)


@pytest.fixture(scope="module")
def runs(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tiny_study, tmp_path_factory.mktemp("runs"))


def test_weights_are_the_base_and_the_weighted_changes(runs: Runs) -> None:
    """Vision and text apart, and targets that overlap, by hand in float64."""
    of = {"vision": 1.0, "both": -0.5, "fft": 0.25}
    found = runs.weights("sum", runs.compose("sum", of))
    parts = {name: runs.weights(name, ARMS[name]) for name in of}
    for name, before in runs.base.items():
        expected = before.double() + sum(
            weight * (parts[part][name].double() - before.double()) for part, weight in of.items()
        )
        assert torch.equal(found[name], expected.float()), name


def test_an_adapter_adds_its_own_product_of_matrices(runs: Runs) -> None:
    """The change of one layer read from the adapter's file: weight · alpha / r · B A."""
    from safetensors.torch import load_file

    found = runs.weights("half", runs.compose("half", {"vision": 1.0, "text": 0.5}))
    layer = "git.encoder.layer.1.attention.self.query"
    saved = load_file(runs.model("text") / "adapter_model.safetensors")
    a, b = (saved[f"base_model.model.{layer}.lora_{letter}.weight"] for letter in "AB")
    scale = ARMS["text"]["alpha"] / ARMS["text"]["r"]
    change = found[f"{layer}.weight"] - runs.base[f"{layer}.weight"]
    assert torch.allclose(change, 0.5 * scale * b @ a, atol=1e-6)


@pytest.mark.parametrize("part", ["text", "fft"])
def test_one_arm_at_weight_one_is_that_arm(runs: Runs, part: str) -> None:
    name = f"as_{part}"
    composed = runs.compose(name, {part: 1.0})
    own = runs.predictions(part, ARMS[part])
    assert runs.predictions(name, composed).equals(own)
    assert own["hypothesis"].n_unique() > 1


def test_it_costs_what_its_arms_cost(runs: Runs) -> None:
    runs.compose("paid", {"text": 1.0, "fft": 1.0})
    cost = json.loads((runs.folder / "paid" / "cost.json").read_text())
    assert (cost["train_seconds"], cost["trainable_parameters"], cost["adapter_mb"]) == (40, 20, 3)
    assert (cost["peak_memory_mb"], cost["energy_joules"], cost["device"]) == (103, 14, "cpu")
    assert cost["total_parameters"] == sum(p.numel() for p in runs.base.values())


def test_an_arm_that_is_composed_reads_no_features_of_the_base() -> None:
    """Its vision tower may have moved: the base's cached features are not its own."""
    method = open_method(arm_of({"method": "composed", "of": {"vision": 1.0}}))
    assert not method.leaves_alone(None, ("git.image_encoder.",), ())
    assert (method.trains, method.parts) == (False, ("vision",))


def test_heads_of_their_own_are_refused(runs: Runs) -> None:
    method = open_method(arm_of({"method": "composed", "of": {"text": 1.0}}))
    with pytest.raises(InputError, match="heads do not add up"):
        method.compose(load_model, runs.study.base, runs.folder, lambda _: ("output",), [])


FFT = {"method": "full", "learning_rate": 1e-3}
LOW = {"method": "lora", "targets": "text", "learning_rate": 1e-3}


def composed(**of: float) -> dict[str, Any]:
    return {"method": "composed", "of": of}


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"c": composed(fft=1, lwo=1)}, r"arms\.c\.of: found 'lwo', expected an arm: c, fft, low"),
        ({"c": composed(c=1)}, r"arms\.c\.of: found a circle: c → c"),
        ({"c": composed(d=1), "d": composed(c=1)}, "found a circle: c → d → c"),
        (
            {"c": composed(x=1), "x": {"method": "peft", "type": "fourierft", "targets": "text",
                                       "learning_rate": 1e-3}},
            r"arms\.c\.of: x does not merge into its base \(method peft\)",
        ),
        (
            {"c": composed(fft=1), "fft": {**FFT, "base": {"id": "elsewhere/git",
                                                          "revision": "a" * 40}}},
            r"arms\.c\.of: fft is of base .*elsewhere.*expected this arm's",
        ),
        ({"c": composed()}, r"arms\.c\.of: .*at least 1"),
    ],
    ids=["unknown", "itself", "circle", "not merged", "another base", "of nothing"],
)  # fmt: skip
def test_what_cannot_be_added_up_is_one_line(
    arms: dict[str, Any], said: str, tmp_path: Path
) -> None:
    study = {
        "data": "phantom", "images": {"size": 48}, "arms": {"fft": FFT, "low": LOW, **arms},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(InputError, match=said) as told:
        load_config({"study": str(path)})
    assert "\n" not in str(told.value)


def test_composed_arms_may_be_made_of_composed_arms(tmp_path: Path) -> None:
    arms = {"fft": FFT, "low": LOW, "c": composed(d=1, low=2), "d": composed(fft=1, low=1)}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"data": "phantom", "images": {"size": 48}, "arms": arms}))
    assert load_config({"study": str(path)}).method("c").parts == ("d", "low")
