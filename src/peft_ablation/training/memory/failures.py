"""What an error says of a configuration: out of memory, wrong input, or a failure."""

import torch

from peft_ablation.errors import InputError
from peft_ablation.training.memory import FAILED, OUT_OF_MEMORY, REFUSED


def what_failed(error: Exception) -> dict[str, str]:
    """Return the `status` that a row gets, and its `reason` in one line."""
    first_line = (str(error).splitlines() or [""])[0]
    if is_out_of_memory(error):
        return {"status": OUT_OF_MEMORY, "reason": first_line}
    if isinstance(error, InputError):
        return {"status": REFUSED, "reason": first_line}
    return {"status": FAILED, "reason": f"{type(error).__name__}: {first_line}"}


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what led to it, is that memory ran out."""
    if error is None:
        return False
    text = str(error).lower()
    # On a CPU it is a RuntimeError with these words, of no class of its own.
    in_words = "can't allocate memory" in text or "out of memory" in text
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (isinstance(error, RuntimeError) and in_words)
        or is_out_of_memory(error.__cause__)
    )
