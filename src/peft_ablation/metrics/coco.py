"""ROUGE-L, CIDEr-D and METEOR 1.5, as the COCO captions' and the E2E challenge's scripts have them.

`pycocoevalcap` brings the programs; its tokenizer and METEOR are Java. Its classes write beside
their own files and ask METEOR text by text, so the two jars are run here. METEOR's score of a
corpus is a value of sums (Denkowski and Lavie, 2014), which is what intervals need.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peft_ablation.errors import InputError

STAGES: Final = ("exact", "stem", "synonym", "paraphrase")
METEOR_COLUMNS: Final = (
    "length",
    "reference_length",
    "function_words",
    "reference_function_words",
    *(
        f"{stage}_{side}_{kind}"
        for stage in STAGES
        for kind in ("content", "function")
        for side in ("matches", "reference_matches")
    ),
    "chunks",
    "matches",
    "reference_matches",
)
"""What METEOR counts of a text, in words. A text equal to its reference has no chunk."""

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS: Final = (1.0, 0.6, 0.8, 0.6)
"""METEOR's parameters for English, those its version 1.5 ranks with."""

Array = NDArray[np.float64]
Tokenised = tuple[list[str], list[list[str]]]


def missing() -> str | None:
    """Return what these measures lack on this machine, in a few words; None if nothing."""
    if find_spec("pycocoevalcap") is None:
        return "the package pycocoevalcap is not installed (pip install 'peft-ablation[coco]')"
    if shutil.which("java") is None:
        return "java is not installed (apt-get install default-jre-headless)"
    return None


def tokenised(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Tokenised:
    """Return the texts as Stanford's PTB tokenizer cuts them: lower case, without punctuation.

    Raises `InputError` with what is `missing`.
    """
    lacking = missing()
    if lacking is not None:
        raise InputError(
            f"METEOR, ROUGE-L and CIDEr: {lacking}; or leave coco out of task.measures"
        )
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    texts = [*hypotheses, *(text for several in references for text in several)]
    # Whatever str.splitlines knows, and Java's reader may, would shift the lines that follow.
    told = "".join(" ".join(text.splitlines()) + "\n" for text in texts)
    lines = _java(
        "-cp", _file("tokenizer", "stanford-corenlp-*.jar"),
        "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase",
        "-encoding", "UTF-8", told=told,
    )  # fmt: skip
    if len(lines) != len(texts):
        raise InputError(
            f"PTB tokenizer: {len(lines)} lines for {len(texts)} texts; a text holds a mark that "
            "it reads as the end of a line"
        )
    cut: Iterator[str] = (
        " ".join(word for word in line.split(" ") if word not in PUNCTUATIONS) for line in lines
    )
    return [next(cut) for _ in hypotheses], [[next(cut) for _ in several] for several in references]


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Return ROUGE-L of each tokenised text, shape (N,): F of the largest precision and recall."""
    from pycocoevalcap.rouge.rouge import Rouge

    rouge = Rouge()
    pairs = zip(hypotheses, references, strict=True)
    return np.array([rouge.calc_score([text], list(several)) for text, several in pairs], float)


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Return CIDEr-D of each tokenised text, shape (N,), 0 to 10.

    The texts given are the whole test set: how rare a word is comes from its references.
    """
    from pycocoevalcap.cider.cider import Cider

    truth = {place: list(several) for place, several in enumerate(references)}
    given = {place: [text] for place, text in enumerate(hypotheses)}
    return np.asarray(Cider().compute_score(truth, given)[1], dtype=np.float64)


def meteor_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """Return what METEOR counts of each tokenised text, shape (N, 23), by `METEOR_COLUMNS`."""
    told = "".join(
        " ||| ".join(("SCORE", *(text.replace("|||", " ") for text in (*several, hypothesis))))
        + "\n"
        for hypothesis, several in zip(hypotheses, references, strict=True)
    )
    lines = _java(
        "-Xmx2G", "-jar", _file("meteor", "meteor-*.jar"),
        "-", "-", "-stdio", "-l", "en", "-norm", told=told,
    )  # fmt: skip
    counts = np.array([line.split() for line in lines], dtype=np.float64)
    counts = counts.reshape(len(hypotheses), len(METEOR_COLUMNS))
    chunks, matches, of_reference = counts[:, -3], counts[:, -2], counts[:, -1]
    whole = (matches == counts[:, 0]) & (of_reference == counts[:, 1]) & (chunks == 1)
    counts[whole, -3] = 0
    return counts


def meteor(sums: Array) -> Array:
    """Return METEOR of summed counts, shape (..., 23) → (...), 0 to 1."""
    length, reference, function, reference_function = np.moveaxis(sums[..., :4], -1, 0)
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], len(STAGES), 4)
    chunks, matches, of_reference = np.moveaxis(sums[..., 20:], -1, 0)
    content = np.multiply(stages[..., :2], DELTA) + np.multiply(stages[..., 2:], 1 - DELTA)
    ours, theirs = np.moveaxis((np.array(STAGE_WEIGHTS)[:, None] * content).sum(axis=-2), -1, 0)
    weighed = DELTA * (length - function) + (1 - DELTA) * function
    weighed_reference = DELTA * (reference - reference_function) + (1 - DELTA) * reference_function
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 1 / ((1 - ALPHA) * weighed / ours + ALPHA * weighed_reference / theirs)
        fragments = chunks / ((matches + of_reference) / 2)
        score = mean * (1 - GAMMA * fragments**BETA)
    return np.where((ours > 0) & (theirs > 0), score, 0.0)


def _file(folder: str, pattern: str) -> str:
    spec = find_spec("pycocoevalcap")
    assert spec is not None and spec.submodule_search_locations
    (found,) = Path(next(iter(spec.submodule_search_locations)), folder).glob(pattern)
    return str(found)


@lru_cache(maxsize=64)
def _java(*command: str, told: str) -> tuple[str, ...]:
    """Return the lines that a Java program answers; the same question is asked once."""
    ran = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", *command],
        input=told, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if ran.returncode:
        said = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"java: exit status {ran.returncode} ({said[:160]}); is it version 8 or later?"
        )
    return tuple(ran.stdout.removesuffix("\n").split("\n"))
