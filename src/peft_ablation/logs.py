"""Logs of a job: one file to read afterwards, one clear line at the terminal when it fails."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_ablation.errors import InputError


def bars_hidden() -> bool:
    """Tell whether a progress bar would only disturb: no terminal, or `TQDM_DISABLE` is set.

    Whoever starts several jobs at one terminal sets it, and draws one bar for all.
    """
    return not sys.stderr.isatty() or bool(os.environ.get("TQDM_DISABLE"))


@contextmanager
def job(log: str | Path, attempt: int | None = None) -> Iterator[logging.Logger]:
    """Log the body to the file `log`; turn its failure into one line and exit status 1.

    An `InputError` is printed as it is. Any other exception leaves its traceback in the log file
    only, and one line with its type, message and the file at the terminal. The project's own
    warnings also reach the terminal; those of libraries only the file.

    `attempt` is the number of Snakemake's attempt at this job within one run, from 1. An attempt
    after one that met an `InputError` ends at once, with that line in the log file alone: no retry
    can mend it, and Snakemake's retries know no exit codes. The line waits in `<log>.refused`.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    refused = path.with_suffix(".refused") if attempt is not None else None
    to_file = logging.FileHandler(path, mode="a", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setLevel(logging.WARNING)
    to_terminal.addFilter(logging.Filter("peft_ablation"))
    to_terminal.setFormatter(logging.Formatter("peft-ablation: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_terminal], force=True)
    logging.captureWarnings(True)
    logger = logging.getLogger("peft_ablation")
    if refused is not None and refused.is_file():
        if attempt != 1:
            logger.info("not tried again: %s", refused.read_text(encoding="utf-8"))
            sys.exit(1)
        refused.unlink()
    try:
        yield logger
    except InputError as error:
        if refused is not None:
            refused.write_text(str(error), encoding="utf-8")
        logger.error("%s", error)
        sys.exit(1)
    except Exception as error:
        logger.info("%s", traceback.format_exc())
        first_line = (str(error).splitlines() or [""])[0]
        logger.error("%s: %s (traceback in %s)", type(error).__name__, first_line, path)
        sys.exit(1)
    finally:
        to_file.flush()
