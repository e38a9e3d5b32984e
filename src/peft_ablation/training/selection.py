"""The finished run: its best model as a plain folder, its history and what it cost.

`select_checkpoint` needs no torch: the training chunks have written the models already.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import read_json, whole_folder, write_json, write_text
from peft_ablation.bases.fetch import base_name
from peft_ablation.errors import InputError
from peft_ablation.provenance import manifest
from peft_ablation.training.checkpoint import BEST, damage

log = logging.getLogger(__name__)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "preprocessor_config.json",
    "processor_config.json",
)


NOTHING_TRAINED = (
    "adapter_mb",
    "train_seconds",
    "evaluate_seconds",
    "saving_seconds",
    "waiting_seconds",
    "peak_memory_mb",
    "mean_memory_mb",
    "reserved_peak_memory_mb",
    "reserved_mean_memory_mb",
)
"""Costs of an arm that is not trained: 0."""


def select_checkpoint(
    chunk: str | Path,
    *,
    base: str | Path,
    arm_name: str,
    arm: Mapping[str, Any],
    seed: int,
    study: str,
    model: str | Path,
    history: str | Path,
    cost: str | Path,
) -> None:
    """Write the model folder of the best validation loss, `history.csv` and `cost.json`.

    `chunk` is the run's last chunk folder. Raises `InputError` if it is damaged.
    """
    from peft_ablation.training.history_table import as_csv

    chunk = Path(chunk)
    wrong = damage(chunk)
    if wrong:
        raise InputError(f"chunk {chunk}: {wrong}; delete the folder and run again")
    state = read_json(chunk / "state.json")
    made_from = read_json(chunk / "manifest.json")["fingerprint"]
    rows = state["history"]
    with whole_folder(model) as part:
        shutil.copytree(chunk / BEST, part, dirs_exist_ok=True)
        for name in TOKENIZER_FILES:
            if Path(base, name).is_file():
                shutil.copy2(Path(base, name), part / name)
        write_text(part / "README.md", _model_card(part, study, arm_name, arm, seed, state, base))
        weights = next(iter(sorted(part.glob("*.safetensors"))))
        written = manifest(
            made_from,
            {"weights": weights},
        )
        write_json(part / "manifest.json", written)
        size = sum(path.stat().st_size for path in part.glob("*.safetensors"))
    write_text(history, as_csv(rows))

    def total(column: str) -> float:
        return float(sum(row[column] for row in rows))

    def mean(column: str) -> float:
        return float(sum(row[column] * row["steps"] for row in rows) / total("steps"))

    def largest(column: str) -> float:
        return float(max(row[column] for row in rows))

    energy = [row["energy_joules"] for row in rows]
    write_json(
        cost,
        {
            "arm": arm_name,
            "seed": seed,
            "method": arm["method"],
            "rank": state["rank"],
            "trainable_parameters": state["parameters"]["trainable"],
            "total_parameters": state["parameters"]["total"],
            "adapter_mb": size / 1e6,
            "train_seconds": total("seconds_training"),
            "evaluate_seconds": total("seconds_evaluating"),
            "saving_seconds": total("seconds_saving"),
            "waiting_seconds": total("seconds_waiting"),
            "peak_memory_mb": largest("memory_allocated_peak_mb"),
            "mean_memory_mb": mean("memory_allocated_mean_mb"),
            "reserved_peak_memory_mb": largest("memory_reserved_peak_mb"),
            "reserved_mean_memory_mb": mean("memory_reserved_mean_mb"),
            "memory_kind": "process_rss" if state["device"] == "cpu" else "gpu_allocated",
            "energy_joules": None if None in energy else sum(energy),
            "epochs": len(rows),
            "best_epoch": state["position"]["best_epoch"],
            "best_val_loss": state["position"]["best_val_loss"],
            "examples_per_second": total("examples") / total("seconds_training"),
            "tokens_per_second": total("tokens") / total("seconds_training"),
            "device": state["device"],
            "precision": state["precision"],
            "learning_rate": made_from["arm"]["learning_rate"],
            "base": base_name(base),
            "manifest": written,
        },
    )
    log.info("%s seed %d: best epoch %d", arm_name, seed, state["position"]["best_epoch"])


def _model_card(
    folder: Path,
    study: str,
    arm_name: str,
    arm: Mapping[str, Any],
    seed: int,
    state: Mapping[str, Any],
    base: str | Path,
) -> str:
    from peft_ablation.methods import open_method

    config = read_json(Path(base, "config.json"))
    (model_class, *_) = config.get("architectures") or ["AutoModel"]
    if (folder / "adapter_config.json").is_file():
        library = "peft"
    elif (folder / "config.json").is_file():
        library = "transformers"
    else:
        library = "peft-ablation"
    trainable = state["parameters"]["trainable"]
    position = state["position"]
    return "\n".join(
        [
            "---",
            f"library_name: {library}",
            "---",
            f"# {arm_name}, seed {seed}, of study {study}",
            "",
            f"Base: `{base_name(base)}`. Trainable parameters: {trainable:,}. "
            f"Best of {len(state['history'])} epochs by validation loss: epoch "
            f"{position['best_epoch']}, {position['best_val_loss']:.4f}.",
            "",
            f"Load: `{open_method(arm).loading(model_class)}`.",
            "",
            "Weights trained on credentialed data are subject to its data use agreement. "
            "A research result, not a medical device.",
            "",
        ]
    )


def keep_base(
    *,
    task: Mapping[str, Any],
    train: str | Path,
    base: str | Path,
    arm_name: str,
    arm: Mapping[str, Any],
    seed: int,
    model: str | Path,
    history: str | Path,
    cost: str | Path,
) -> None:
    """Write what `select_checkpoint` writes for an arm that is scored without training.

    The model folder holds what its method keeps: nothing where the base itself is scored.
    """
    from peft_ablation.methods import open_method
    from peft_ablation.methods.parameters import count_parameters
    from peft_ablation.tasks import open_task
    from peft_ablation.training.history_table import as_csv

    bound, method = open_task(task, train), open_method(arm)
    inputs = {"base": Path(base), **{Path(path).name: Path(path) for path in method.inputs}}
    written = manifest({"arm": dict(arm), "seed": seed}, inputs)
    with whole_folder(model) as part:
        kept = method.keep(bound.load_model, base, part, bound.heads_of)
        of = ", ".join(
            [f"the base `{base_name(base)}`", *(f"`{name}`" for name in list(inputs)[1:])]
        )
        write_text(part / "README.md", f"# {arm_name}: {of} as it is\n")
        write_json(part / "manifest.json", written)
    write_text(history, as_csv([]))
    write_json(
        cost,
        {
            **_untrained_cost(arm_name, arm, seed, base),
            "trainable_parameters": kept.trained,
            "total_parameters": count_parameters(kept.model).total,
            "adapter_mb": kept.megabytes,
            "trained_elsewhere": method.elsewhere,
            "manifest": written,
        },
    )


def _untrained_cost(
    arm_name: str, arm: Mapping[str, Any], seed: int, base: str | Path
) -> dict[str, Any]:
    """Return what `cost.json` says of a run without steps of its own."""
    return {
        **dict.fromkeys(NOTHING_TRAINED, 0.0),
        "arm": arm_name,
        "seed": seed,
        "method": arm["method"],
        "rank": None,
        "memory_kind": "not trained",
        "energy_joules": None,
        "epochs": 0,
        "best_epoch": 0,
        "best_val_loss": None,
        "examples_per_second": None,
        "tokens_per_second": None,
        "device": "not trained",
        "precision": "not trained",
        "learning_rate": None,
        "base": base_name(base),
    }


SUMMED = (
    "trainable_parameters",
    "adapter_mb",
    "train_seconds",
    "evaluate_seconds",
    "saving_seconds",
    "waiting_seconds",
)
"""Costs of runs that add up."""


def compose_runs(
    *,
    task: Mapping[str, Any],
    train: str | Path,
    base: str | Path,
    arm_name: str,
    arm: Mapping[str, Any],
    seed: int,
    parts: Mapping[str, Mapping[str, Any]],
    models: Sequence[str | Path],
    costs: Sequence[str | Path],
    model: str | Path,
    history: str | Path,
    cost: str | Path,
) -> None:
    """Write what `select_checkpoint` writes for an arm that is made of finished runs.

    `parts` are the settings of its arms by name, `models` and `costs` are of their runs, in that
    order. What these have cost, it has cost: seconds, parameters and stored bytes add up, memory is
    the largest.
    """
    from peft_ablation.methods import Part, open_method
    from peft_ablation.methods.parameters import count_parameters
    from peft_ablation.tasks import open_task
    from peft_ablation.training.history_table import as_csv

    bound, method = open_task(task, train), open_method(arm)
    runs = [
        Part(name, open_method(settings), Path(folder))
        for (name, settings), folder in zip(parts.items(), models, strict=True)
    ]
    inputs = {"base": Path(base), **{part.arm: part.model for part in runs}}
    written = manifest({"arm": dict(arm), "seed": seed}, inputs)
    with whole_folder(model) as folder:
        composed = method.compose(bound.load_model, base, folder, bound.heads_of, runs)
        names = ", ".join(part.arm for part in runs)
        write_text(folder / "README.md", f"# {arm_name}: made of {names}, seed {seed}\n")
        write_json(folder / "manifest.json", written)
    write_text(history, as_csv([]))
    paid = [read_json(path) for path in costs]
    energy = [each["energy_joules"] for each in paid]
    write_json(
        cost,
        {
            **_untrained_cost(arm_name, arm, seed, base),
            **{key: sum(each[key] for each in paid) for key in SUMMED},
            **{
                key: max(each[key] for each in paid) for key in NOTHING_TRAINED if key not in SUMMED
            },
            **{
                key: ", ".join(sorted({each[key] for each in paid}))
                for key in ("memory_kind", "device", "precision")
            },
            "energy_joules": None if None in energy else sum(energy),
            "total_parameters": count_parameters(composed).total,
            "trained_elsewhere": any(each.get("trained_elsewhere", False) for each in paid),
            "manifest": written,
        },
    )
