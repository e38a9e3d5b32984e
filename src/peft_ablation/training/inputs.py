"""What a run is made from; its result depends on nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import sha256_file, sha256_json
from peft_ablation.data.images import files_of
from peft_ablation.methods import open_method
from peft_ablation.provenance import releases
from peft_ablation.tasks import task_class
from peft_ablation.training.checkpoint import (
    OF_BITSANDBYTES,
    PROTOCOL_VERSION,
    Fingerprint,
    optimizer_of,
    protocol_of,
)


@dataclass(frozen=True)
class RunInputs:
    """One arm and seed, as plain values and paths."""

    task: Mapping[str, Any]
    """The study's `task:` section."""
    arm: Mapping[str, Any]
    """The arm's settings."""
    settings: Mapping[str, Any]
    """Fields of `study.Train`; of a trial also `MAY_DIVERGE`."""
    seed: int
    base: str | Path
    """Folder of the pretrained model."""
    train: str | Path
    """Table of the training split."""
    val: str | Path
    """Table of the validation split."""
    assets: Mapping[str, str | Path]
    """What the task reads besides: `images` (index of the cache), `features` where the arm leaves
    the base's frozen part alone."""
    init_from: str | Path | None = None
    """Model folder of a run whose trained weights this one starts from."""

    def fingerprint(self) -> Fingerprint:
        """Return everything that the result depends on, by name; files by their SHA-256."""
        images = self.assets.get("images")
        beside = task_class(self.task["name"]).not_training
        return {
            "protocol": PROTOCOL_VERSION,
            "task": {key: value for key, value in self.task.items() if key not in beside},
            "arm": dict(self.arm),
            "train": protocol_of(self.settings),
            "seed": self.seed,
            "base": model_sha256(self.base),
            "init_from": model_sha256(self.init_from) if self.init_from else None,
            "data": {
                "train": sha256_file(self.train),
                "val": sha256_file(self.val),
                "images": sha256_json([sha256_file(p) for p in files_of(images)])
                if images
                else None,
                "features": bool(self.assets.get("features")),
            },
            # What decomposes or quantises weights is the library's to make again.
            "libraries": releases(self._libraries),
        }

    @property
    def _libraries(self) -> tuple[str, ...]:
        optimizer = optimizer_of(self.settings)
        more = ("bitsandbytes",) if optimizer in OF_BITSANDBYTES else ()
        return (*open_method(self.arm).libraries, *more)


def model_sha256(folder: str | Path) -> str:
    """Return the SHA-256 of a model folder's weights and vocabulary."""
    weights = sorted(Path(folder).glob("*.safetensors"))
    vocabulary = sorted(Path(folder).glob("tokenizer*.json"))
    return sha256_json([sha256_file(path) for path in (*weights, *vocabulary)])
