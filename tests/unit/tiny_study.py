"""Paths and job arguments of the small study that `conftest.py` makes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_ablation.config.study import Arm, Train

SIZE = 32


@dataclass(frozen=True)
class TinyStudy:
    """Paths of a small study's base, splits and images."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def index(self) -> Path:
        return self.folder / "images" / "index.parquet"

    def split(self, name: str) -> Path:
        return self.folder / "splits" / f"{name}.parquet"

    def job(self, output: Path, arm: str = "lora_text", **settings: Any) -> dict[str, Any]:
        """Arguments of `train_chunk` for the first chunk of a short run into `output`."""
        arms = {
            "fft": Arm(method="full", learning_rate=1e-3),
            "lora_vision": Arm(method="lora", targets="vision", r=4, alpha=8, learning_rate=5e-3),
            "lora_text": Arm(method="lora", targets="text", r=4, alpha=8, learning_rate=5e-3),
        }
        train = Train.model_validate(
            {
                "epochs": 4, "epochs_per_chunk": 4, "batch_size": 16, "precision": "fp32",
                "max_tokens": 200, "threads": 1, **settings,
            }
        )  # fmt: skip
        return {
            "task": "captioning", "arm_name": arm, "arm": arms[arm].model_dump(mode="json"),
            "settings": train.model_dump(mode="json"), "seed": 0, "chunk": 0, "base": self.base,
            "train": self.split("train"), "val": self.split("val"), "index": self.index,
            "features": None, "previous": None,
            "checkpoints": output.parent / f"{output.name}.ckpt",
            "tensorboard": None, "output": output,
        }  # fmt: skip
