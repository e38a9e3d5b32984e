"""A task of nobody's: one number from another, by a model that only this file knows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from peft_ablation.metrics.metric import Metric, Statistics
from peft_ablation.tasks import Baseline, Claim, Task


class LineModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope, self.shift = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shift(self.slope(x[:, None]))[:, 0]

    def save_pretrained(self, folder: str | Path) -> None:
        Path(folder).mkdir(exist_ok=True)
        save_file(self.state_dict(), Path(folder, "model.safetensors"))
        Path(folder, "config.json").write_text(json.dumps({"model_type": "line"}))


class Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((self.model(x) - y) ** 2).sum()


@dataclass(frozen=True)
class Points:
    ids: list[str]
    x: Tensor
    y: Tensor

    @property
    def lengths(self) -> Any:
        return np.ones(len(self), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def weight(self, indices: Any) -> int:
        return len(indices)

    def batch(self, indices: Any) -> dict[str, Tensor]:
        return {"x": self.x[indices], "y": self.y[indices]}


class Predicted:
    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval()

    def truth(self, examples: Points) -> Mapping[str, Any]:
        return {"y": examples.y.tolist()}

    def __call__(self, examples: Points, indices: Any) -> Mapping[str, Any]:
        return {"predicted": self.model(examples.x[indices]).tolist()}


class Line(Task):
    columns = ("x", "y")
    truth = ("y",)
    architectures: ClassVar[Mapping[str, str]] = {"line": "LineModel"}
    headline = "squared_error"
    claims = (Claim("squared_error", "mean"),)
    example = "point"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        def statistics(table: pl.DataFrame) -> Any:
            errors = (table["predicted"] - table["y"]).to_numpy() ** 2
            return np.stack([errors, np.ones(len(errors))], axis=1)

        sums = Statistics(("squares", "points"), statistics)
        return (
            Metric(
                "squared_error", "squared error", "mean squared error", sums,
                lambda values: values[..., 0] / values[..., 1],
                higher_is_better=False, needs=("predicted",),
            ),
        )  # fmt: skip

    def baselines(self) -> Mapping[str, Baseline]:
        return {"mean": Baseline("mean, always", {"predicted": self.train["y"].mean()}, {})}

    def load_model(self, folder: str | Path) -> nn.Module:
        model = LineModel()
        model.load_state_dict(load_file(Path(folder, "model.safetensors")))
        return model

    def examples(self, table: str | Path, assets: Any, base: Any) -> Points:
        rows = pl.read_parquet(table)
        x, y = (torch.tensor(rows[name].to_list()) for name in ("x", "y"))
        return Points(rows["example_id"].to_list(), x, y)

    def loss_module(self, model: nn.Module, base: Any) -> nn.Module:
        return Loss(model)

    def shuffled(self, examples: Any, seed: int) -> Points:
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
        return replace(examples, x=examples.x[order])

    def predictor(self, model: nn.Module, base: Any, device: Any) -> Predicted:
        return Predicted(model)


TASK = Line
