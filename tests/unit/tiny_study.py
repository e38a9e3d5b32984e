"""Paths and job arguments of the small study that `conftest.py` makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_ablation.config.study import Train
from peft_ablation.methods import method_class
from peft_ablation.tasks import task_class
from peft_ablation.training.inputs import RunInputs

SIZE = 32
UNITS = {
    "subject": ("subject_id",), "study": ("subject_id", "study_id"), "image": ("dicom_id",),
}  # fmt: skip
ARMS: Mapping[str, Mapping[str, Any]] = {
    "fft": {"method": "full", "learning_rate": 1e-3},
    "lora_vision": {
        "method": "lora", "targets": "vision", "r": 4, "alpha": 8, "learning_rate": 5e-3,
    },
    "lora_text": {"method": "lora", "targets": "text", "r": 4, "alpha": 8, "learning_rate": 5e-3},
}  # fmt: skip


def task_of(**settings: Any) -> dict[str, Any]:
    """Return a captioning study's `task:` section as plain values."""
    told = {"name": "captioning", "findings": "corrected", "max_tokens": 200, **settings}
    return task_class("captioning").Settings.model_validate(told).model_dump(mode="json")


def arm_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm as plain values, as a job is given it."""
    values = method_class(settings["method"]).Settings.model_validate(dict(settings))
    return values.model_dump(mode="json", exclude={"base", "init_from"})


def changed(job: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a job with other `RunInputs`; a mapping is merged into the job's own."""
    given = job["given"]
    merged = {
        name: {**getattr(given, name), **value} if isinstance(value, Mapping) else value
        for name, value in fields.items()
    }
    return {**job, "given": replace(given, **merged)}


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

    def inputs(
        self,
        arm: str = "lora_text",
        task: Mapping[str, Any] | None = None,
        features: Path | None = None,
        **settings: Any,
    ) -> RunInputs:
        """A short run of an arm; `task` and `settings` replace settings of task and training."""
        train = Train.model_validate(
            {
                "epochs": 4, "epochs_per_chunk": 4, "batch_size": 16, "precision": "fp32",
                "threads": 1, **settings,
            }
        )  # fmt: skip
        return RunInputs(
            task=task_of(**(task or {})),
            arm=arm_of(ARMS[arm]),
            settings=train.model_dump(mode="json"),
            seed=0,
            base=self.base,
            train=self.split("train"),
            val=self.split("val"),
            assets={"images": self.index} | ({"features": features} if features else {}),
        )

    def job(self, output: Path, arm: str = "lora_text", **changes: Any) -> dict[str, Any]:
        """Arguments of `train_chunk` for the first chunk of `inputs(arm, **changes)`."""
        return {
            "given": self.inputs(arm, **changes), "name": f"{arm} seed 0", "chunk": 0,
            "previous": None, "checkpoints": output.parent / f"{output.name}.ckpt",
            "tensorboard": None, "output": output,
        }  # fmt: skip


SCORE: dict[str, Any] = {"metrics": None, "tested": None, "margin": {}}
"""What a comparison reads of a study's `score`."""
