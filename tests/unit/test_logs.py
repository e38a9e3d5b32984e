"""A failed job leaves one line; what a person must mend is not tried again by Snakemake."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_ablation.errors import InputError
from peft_ablation.logs import job


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give the root logger its handlers back, which a job replaces."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before, level
    logging.captureWarnings(False)


def fails(log: Path, error: Exception, attempt: int | None = None) -> bool:
    """Run a job that meets `error`, with a new log as Snakemake does; tell whether it began."""
    log.unlink(missing_ok=True)
    began = False
    with pytest.raises(SystemExit) as ended, job(log, attempt):
        began = True
        raise error
    assert ended.value.code == 1
    return began


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "train.log"


def test_wrong_input_is_told_once_and_not_tried_again_in_the_same_run(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = InputError("train.max_tokens: found 8, expected 20")
    assert fails(log, wrong, attempt=1)
    assert not fails(log, wrong, attempt=2)
    assert not fails(log, wrong, attempt=3)
    told = capsys.readouterr().err.splitlines()
    assert told == ["peft-ablation: train.max_tokens: found 8, expected 20"]
    assert "not tried again: train.max_tokens: found 8, expected 20" in log.read_text()


def test_another_run_tries_afresh(log: Path) -> None:
    assert fails(log, InputError("wrong"), attempt=1)
    assert fails(log, InputError("still wrong"), attempt=1)
    with job(log, 1):
        pass
    # Mended: what a later attempt meets has nothing to do with it.
    assert fails(log, RuntimeError("lost"), attempt=2)


def test_what_may_pass_is_tried_again(log: Path) -> None:
    assert fails(log, RuntimeError("CUDA error"), attempt=1)
    assert fails(log, InputError("wrong"), attempt=2)
    assert not fails(log, InputError("wrong"), attempt=3)


def test_a_job_without_retries_leaves_its_log_alone(log: Path) -> None:
    assert fails(log, InputError("wrong"))
    assert [path.name for path in log.parent.iterdir()] == ["train.log"]
    assert fails(log, InputError("wrong"))


def test_an_unforeseen_error_is_one_line_with_its_traceback_in_the_log(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(log, ValueError("first line\nsecond line"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"peft-ablation: ValueError: first line (traceback in {log})"
    assert "Traceback" in log.read_text()
