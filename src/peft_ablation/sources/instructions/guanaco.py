"""OpenAssistant-Guanaco (Dettmers et al., 2023): OASST1's best-ranked paths, in one `text` each.

Turns begin with `### Human:` and `### Assistant:`; many end with a human's, which is dropped.
"""

import re
from collections.abc import Iterable
from typing import Final

from peft_ablation.sources.instructions.marked import divided
from peft_ablation.sources.instructions.rows import ASSISTANT, USER, Found, Row

_MARK: Final = re.compile(r"### (Human|Assistant):")
_ROLES: Final = {"Human": USER, "Assistant": ASSISTANT}


def conversations(rows: Iterable[Row]) -> Found:
    """Yield the conversation of each row."""
    for row in rows:
        yield divided(row, row.text("text"), _MARK, _ROLES)
