"""Peak memory of a training step by configuration, measured beside what a formula expects.

Each configuration is measured in a process of its own, by the engine's own steps. One that runs out
of memory, or whose process the kernel ends, is a row that says so; the others are measured all the
same.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import read_json, write_json, write_table
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.training.checkpoint import LATER
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)

MEASURED: Final = "measured"
OUT_OF_MEMORY: Final = "out of memory"
REFUSED: Final = "refused"
"""Wrong input: a length beyond the base's context, a method that cannot do it."""
FAILED: Final = "failed"

PARTS: Final = ("frozen", "trained", "gradients", "optimizer", "logits")
"""What the formula adds up."""

COLUMNS: Final = (
    "arm", "method", "rank", "batch_size", "length", "supervised", "gradient_checkpointing",
    "optimizer", "status", "peak_mb", "reserved_peak_mb", "kept_for_backward_mb", "expected_mb",
    *(f"expected_{part}_mb" for part in PARTS), "memory_kind", "device", "precision", "reason",
)  # fmt: skip
"""Columns of memory.csv; megabytes are 10⁶ bytes."""

FREED_AT_ONCE: Final = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}
"""Setting of glibc by which a tensor's memory leaves the process with it. Else holes stay, so that
on a CPU one arm may seem to take more than another though its tensors take less."""

VARIED: Final = {"gradient_checkpointing": "gradient_checkpointing", "optimizers": "optimizer"}
"""Lists of a `memory:` section, and the setting of training that each varies."""

_NUMBERS: Final = ("peak_mb", "reserved_peak_mb", "kept_for_backward_mb", "expected_mb")
_WHOLE: Final = ("rank", "batch_size", "length", "supervised")


@dataclass(frozen=True)
class Configuration:
    """One training step that is measured."""

    arm: str
    batch_size: int
    length: int | None
    """In the task's unit; None: the longest training examples as they are."""
    settings: Mapping[str, Any]
    """Settings of training that differ from the study's."""


def configurations(memory: Mapping[str, Any], runs: Mapping[str, RunInputs]) -> list[Configuration]:
    """Return one configuration of each combination of the lists of a `memory:` section.

    Where a list of settings is null, an arm has the one that it is trained with.
    """
    found = []
    for arm, given in runs.items():
        lists = {
            key: memory[key] or [given.settings.get(setting, LATER[setting])]
            for key, setting in VARIED.items()
        }
        for length, batch_size, *values in product(
            memory["lengths"] or [None], memory["batch_sizes"], *lists.values()
        ):
            settings = dict(zip(VARIED.values(), values, strict=True))
            found.append(Configuration(arm, batch_size, length, settings))
    return found


def measure_memory(
    runs: Mapping[str, RunInputs], *, memory: Mapping[str, Any], output: str | Path
) -> None:
    """Write memory.csv: a row a configuration, measured and expected (`COLUMNS`).

    `runs` are the inputs of one run of each arm; `memory` are the fields of a `memory:` section as
    plain values, with `batch_sizes` that are no null. Raises `InputError` where every
    configuration is refused: then the input is wrong, and not one combination of it.
    """
    asked = configurations(memory, runs)
    with own_devices(1), _children_end_with_this_process():
        expected = _expected(runs, memory)
        rows = []
        for place, one in enumerate(asked, 1):
            told = _told(expected[one.arm], one)
            found = _refused(runs[one.arm], one, told) or _measured(runs[one.arm], one)
            log.info(
                "%d of %d: %s, batch %d, length %s, %s: %s %s", place, len(asked), one.arm,
                one.batch_size, one.length, dict(one.settings), found["status"],
                found.get("reason") or f"{found['peak_mb']:.1f} MB",
            )  # fmt: skip
            rows.append(_row(runs[one.arm], one, found, told))
    refused = [row["reason"] for row in rows if row["status"] == REFUSED]
    if len(refused) == len(rows):
        raise InputError(refused[0])
    _write(rows, output)


def _expected(runs: Mapping[str, RunInputs], memory: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the formula says, by arm; of an arm nothing where it cannot."""
    sizes = list(product(memory["batch_sizes"], memory["lengths"] or [None]))
    plain = {arm: _plain(given) for arm, given in runs.items()}
    found = alone("expected", {"runs": plain, "sizes": sizes})
    arms: dict[str, Any] = found.get("arms") or dict.fromkeys(runs, found)
    for arm, told in arms.items():
        if "reason" in told:
            log.warning("memory: the formula says nothing of %s: %s", arm, told["reason"])
    return arms


def _told(arm: Mapping[str, Any], one: Configuration) -> dict[str, Any]:
    """Return what `expected` says of a configuration: it depends on optimizer and size."""
    return {
        **arm.get("held", {}),
        **arm.get("optimizer", {}).get(one.settings["optimizer"], {}),
        **arm.get("sizes", {}).get(f"{one.batch_size} {one.length}", {}),
    }


def _refused(
    given: RunInputs, one: Configuration, told: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a row says that cannot be measured, as is known before; else None."""
    reason = told.get("refused")
    if one.settings["gradient_checkpointing"] and not open_method(given.arm).recomputes:
        reason = f"method {given.arm['method']} cannot have gradient checkpointing"
    return None if reason is None else {"status": REFUSED, "reason": reason}


def _measured(given: RunInputs, one: Configuration) -> dict[str, Any]:
    changed = {
        **given.settings, **one.settings, "batch_size": one.batch_size, "micro_batch_size": None,
        "halve_batch_on_oom": False,
    }  # fmt: skip
    return alone(
        "measured",
        {
            "given": {**_plain(given), "settings": changed},
            "batch_size": one.batch_size,
            "length": one.length,
        },
    )


def _plain(given: RunInputs) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(given), default=str))
    return plain


def _row(
    given: RunInputs, one: Configuration, found: Mapping[str, Any], told: Mapping[str, Any]
) -> dict[str, Any]:
    parts = {f"expected_{part}_mb": told.get(part) for part in PARTS}
    known = [value for value in parts.values() if value is not None]
    return {
        "arm": one.arm,
        "method": given.arm["method"],
        "rank": open_method(given.arm).rank,
        "batch_size": one.batch_size,
        "length": told.get("length", one.length),
        "supervised": told.get("supervised"),
        **one.settings,
        **parts,
        "expected_mb": sum(known) if known else None,
        **found,
    }


def _write(rows: Sequence[Mapping[str, Any]], output: str | Path) -> None:
    import polars as pl

    numbers = (*_NUMBERS, *(f"expected_{part}_mb" for part in PARTS))
    schema = {
        name: pl.Float64 if name in numbers
        else pl.Int64 if name in _WHOLE
        else pl.Boolean if name == "gradient_checkpointing"
        else pl.String
        for name in COLUMNS
    }  # fmt: skip
    table = [{name: row.get(name) for name in COLUMNS} for row in rows]
    write_table(pl.DataFrame(table, schema=schema), output)


# -- processes -------------------------------------------------------------------------------------


def alone(what: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `__main__` finds in a process of its own, with its `status`.

    `reason` is there where it is not `MEASURED`.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result = Path(folder, "request.json"), Path(folder, "result.json")
        write_json(request, {"what": what, "told": dict(told)})
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(request), str(result)],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | FREED_AT_ONCE,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        if result.is_file():
            found: dict[str, Any] = read_json(result)
        elif done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            # SIGKILL is the kernel's answer where memory is out: Python has no time to say so.
            found = {"status": f"ended by {name}", "reason": "its process was ended from outside"}
        else:
            found = {"status": FAILED, "reason": f"its process ended with {done.returncode}"}
    if found["status"] != MEASURED and done.stderr:
        log.info("%s", done.stderr)
    return found


@contextmanager
def _children_end_with_this_process() -> Iterator[None]:
    """Leave by an exception on SIGTERM: then the process that is waited for is killed too."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
