"""What a test needs besides Python, installed by apt where it is absent and this user may."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence


def install(what: str, command: str, missing: Callable[[], Sequence[str]]) -> str | None:
    """Install what `missing` names; return why that cannot be, or None if nothing is missing."""
    lacking = missing()
    if not lacking:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"no {what} here ({', '.join(lacking)} missing); install it: {command}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in ("apt-get update", f"{command} --yes"):
        done = subprocess.run(
            step.split(), env=environment, capture_output=True, text=True, timeout=400
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return f"{what} could not be installed: {step}: {reason}"
    lacking = missing()
    return f"{what} lacks {', '.join(lacking)} after {command}" if lacking else None
