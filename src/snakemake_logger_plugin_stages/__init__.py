"""A short account of a run: a line a stage, a progress bar at a terminal, errors in full.

    snakemake --logger stages …

Snakemake finds the plugin by the name of this package, where the library is installed. What it
would say by itself, a dozen lines a job, is still written to `.snakemake/log/`.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm


def stage(message: str, rule: str, wildcards: Mapping[str, str], count: int) -> str:
    """Return the line that announces the `count` jobs of a rule, from the message of its first job.

    What tells a job from the others is left out: all from the first wildcard's value on, and the
    small words before it; the rule's name stands in where nothing is left.

    >>> stage("Writing reports with fft, seed 0", "generate", {"arm": "fft", "seed": "0"}, 6)
    'Writing reports (6 jobs)'
    """
    if count == 1:
        return message
    values = "|".join(re.escape(value) for value in wildcards.values())
    own = re.search(rf"(?<![\w.])(?:{values})(?![\w.])", message) if values else None
    if own:
        words = message[: own.start()].rstrip(" ,:").split()
        while words and words[-1] in (*wildcards, "of", "with", "for", "from", "as"):
            words.pop()
        message = " ".join(words).rstrip(",:") or rule
    return f"{message} ({count} jobs)"


class LogHandler(LogHandlerBase):
    """Snakemake's events as a few lines on stderr (stdout, where Snakemake is told so)."""

    def __post_init__(self) -> None:
        """Start with nothing announced."""
        self.jobs: Mapping[str, int] = {}
        self.announced: set[str] = set()
        self.bar: tqdm | None = None
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        # One bar: those of the jobs, which are other processes, would be drawn over it.
        os.environ.setdefault("TQDM_DISABLE", "1")

    def emit(self, record: logging.LogRecord) -> None:
        """Say what a person wants to know of a record, or nothing."""
        event = getattr(record, "event", None)
        if self.common_settings.dryrun or record.levelno >= logging.WARNING:
            self._say(self.format(record))
        elif event == LogEvent.RUN_INFO:
            self.jobs = record.__dict__["stats"]
            self._progress(0, self.jobs["total"])
        elif event == LogEvent.JOB_INFO:
            self._announce(record.__dict__)
        elif event == LogEvent.PROGRESS:
            self._progress(record.__dict__["done"], record.__dict__["total"])

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
        super().close()

    def _announce(self, job: Mapping[str, Any]) -> None:
        rule, message = job["rule_name"], job["rule_msg"]
        only_collects = not job["output"] and not message
        if rule in self.announced or only_collects:
            return
        self.announced.add(rule)
        self._say(stage(message or rule, rule, job["wildcards"], self.jobs.get(rule, 1)))

    def _progress(self, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=total, unit="job", file=self.stream, disable=not self.stream.isatty()
            )
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def _say(self, line: str) -> None:
        tqdm.write(line, file=self.stream)
        self.stream.flush()

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's own account."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It writes no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """Snakemake's `--quiet` holds here too."""
        return False

    @property
    def has_formatter(self) -> bool:
        """What is not said in other words is said in Snakemake's."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """It asks for no graph of the rules."""
        return False
