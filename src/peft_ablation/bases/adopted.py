"""The result of a run as a base for others."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import sha256_file, whole_folder, write_json
from peft_ablation.bases.fetch import FILES
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.tasks import open_task


def adopt_run(
    model: str | Path,
    *,
    base: str | Path,
    train: str | Path,
    task: Mapping[str, Any],
    arm: Mapping[str, Any],
    output: str | Path,
) -> None:
    """Write the model of a run to the folder `output` as `from_pretrained` loads it.

    Adapters are merged into `base`; `task`, `arm` and `train` are those of the run. Raises
    `InputError` where the method leaves something beside the base's weights that cannot be merged.
    """
    trained = open_method(arm).load(open_task(task, train).load_model, base, model)
    if hasattr(trained, "peft_config"):
        raise InputError(
            f"base.run: {model}: method {arm['method']} does not merge into its base; take an arm "
            "that does, such as full or lora"
        )
    write_base(trained, base, output, identity="run")


def write_base(model: Any, base: str | Path, output: str | Path, *, identity: str) -> None:
    """Write a model as `from_pretrained` loads it, with what else the folder `base` holds."""
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        for pattern in FILES:
            for path in Path(base).glob(pattern):
                if not (folder / path.name).exists() and path.suffix != ".safetensors":
                    shutil.copyfile(path, folder / path.name)
        sums = {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}
        write_json(folder / "base.json", {"id": identity, "sha256": sums})
