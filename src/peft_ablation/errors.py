"""The one exception for input that a person must mend."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A config, file, row or service is not as it must be.

    The message is one line for the person at the terminal: what, where, what was found, what was
    expected, and what to do. Entry points print it without a traceback and exit with status 1.
    It must never hold a patient's text, image or identifier other than a de-identified path or
    `dicom_id` of the data set itself.
    """


def near_miss(word: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean '…'?` if one of the allowed words is close, else nothing."""
    match = difflib.get_close_matches(word, list(allowed), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
