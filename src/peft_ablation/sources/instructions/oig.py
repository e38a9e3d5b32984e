"""OIG, the Open Instruction Generalist set (LAION, 2023), chip2 and others.

`text` holds lines that begin with `<human>:` and `<bot>:`; other sets than chip2 may have
background before the first, which becomes the system's message.
"""

import re
from collections.abc import Iterable
from typing import Final

from peft_ablation.sources.instructions.marked import divided
from peft_ablation.sources.instructions.rows import ASSISTANT, USER, Found, Row

_MARK: Final = re.compile(r"(?:^|\n)\s*<(human|bot)>:")
_ROLES: Final = {"human": USER, "bot": ASSISTANT}


def conversations(rows: Iterable[Row]) -> Found:
    """Yield the conversation of each row."""
    for row in rows:
        yield divided(row, row.text("text"), _MARK, _ROLES)
