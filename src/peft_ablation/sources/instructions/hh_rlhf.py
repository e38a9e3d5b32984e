"""HH-RLHF (Bai et al., 2022): `chosen` and `rejected`, of which the chosen one is read.

Turns begin with `Human:` and `Assistant:` after an empty line.
"""

import re
from collections.abc import Iterable
from typing import Final

from peft_ablation.sources.instructions.marked import divided
from peft_ablation.sources.instructions.rows import ASSISTANT, USER, Found, Row

_MARK: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES: Final = {"Human": USER, "Assistant": ASSISTANT}


def conversations(rows: Iterable[Row]) -> Found:
    """Yield the chosen conversation of each row."""
    for row in rows:
        yield divided(row, row.text("chosen"), _MARK, _ROLES)
