"""One process that measures one configuration, or computes what is expected of all.

`python -m peft_ablation.training.memory REQUEST RESULT`, both JSON: `alone` of the package writes
the one and reads the other.
"""

import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from peft_ablation.artifacts import read_json, write_json
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.memory import MEASURED
from peft_ablation.training.memory.expected import expected
from peft_ablation.training.memory.failures import what_failed
from peft_ablation.training.memory.measured import measured


def _expected(runs: Mapping[str, Any], sizes: Any) -> dict[str, Any]:
    """Return what is expected of each arm, or why nothing is."""
    found: dict[str, Any] = {}
    for arm, given in runs.items():
        try:
            found[arm] = expected(RunInputs(**given), [tuple(size) for size in sizes])
        except Exception as error:
            traceback.print_exc()
            found[arm] = what_failed(error)
    return {"arms": found}


def _measured(given: Mapping[str, Any], batch_size: int, length: int | None) -> dict[str, Any]:
    return measured(RunInputs(**given), batch_size=batch_size, length=length)


_KINDS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
    "expected": _expected,
    "measured": _measured,
}


def main(request: str, result: str) -> None:
    """Do what `request` says and write to `result` what came of it, with its `status`."""
    asked = read_json(request)
    try:
        found = {"status": MEASURED, **_KINDS[asked["what"]](**asked["told"])}
    except Exception as error:
        traceback.print_exc()
        found = what_failed(error)
    write_json(result, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
