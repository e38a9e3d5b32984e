"""Text scores of any two files, line by line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.errors import InputError
from peft_ablation.metrics import coco
from peft_ablation.metrics.findings import findings_details, findings_metrics
from peft_ablation.metrics.texts import (
    answer_metrics,
    bleu_metrics,
    chrf_metric,
    coco_metrics,
    nist_metric,
    variety,
    variety_metrics,
)
from peft_ablation.scoring.scores import Resampling, score_table

DEFAULT: Final = Resampling(1000, 0.95, 7)


def score_files(
    hypotheses: str | Path,
    references: str | Path,
    *,
    template: str = "corrected",
    lowercase: bool = False,
    resampling: Resampling = DEFAULT,
) -> dict[str, Any]:
    """Return the text scores of two UTF-8 files, one text a line.

    The reference file has either as many lines as the other, or as many groups of lines set apart
    by empty lines (several references a text, as in the E2E challenge). Each line is a group of
    its own. Raises `InputError` for a missing or empty file, or numbers that do not agree.
    """
    texts = _lines(hypotheses)
    lines = _lines(references)
    groups = [[line] for line in lines]
    if len(groups) != len(texts):
        blocks = "\n".join(lines).strip("\n").split("\n\n")
        groups = [[line for line in block.split("\n") if line] for block in blocks]
    if len(groups) != len(texts):
        raise InputError(
            f"{references}: {len(lines)} lines, expected {len(texts)} as in {hypotheses}, "
            "or as many groups of lines set apart by empty lines"
        )
    pairs = pl.DataFrame({"hypothesis": texts, "reference": groups})
    lacking = coco.missing()
    metrics = (
        *bleu_metrics(groups, lowercase=lowercase),
        chrf_metric(lowercase=lowercase),
        nist_metric(),
        *(coco_metrics() if lacking is None else ()),
        *answer_metrics(),
        *variety_metrics(lowercase=lowercase),
        *findings_metrics(template),
    )
    scored = score_table(pairs, metrics, groups=np.arange(len(texts)), resampling=resampling)
    return {
        **scored.values,
        **variety(texts),
        **findings_details(pairs, template),
        **({} if lacking is None else {"absent": {"meteor, rouge_l, cider": lacking}}),
        "rows": len(texts),
        "references": sum(len(group) for group in groups),
        "template": template,
        "resampling": {
            "unit": "line",
            "samples": resampling.samples,
            "confidence": resampling.confidence,
            "seed": resampling.seed,
        },
    }


def _lines(path: str | Path) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; expected a text file, one text a line"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{path}: empty, expected one text a line")
    return [line.removesuffix("\r") for line in lines]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the text scores of two files as JSON; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m peft_ablation.scoring",
        description="Score texts against references, line by line; prints JSON.",
    )
    parser.add_argument("hypotheses", help="UTF-8 file, one text a line")
    parser.add_argument(
        "references",
        help="UTF-8 file, one reference a line, or groups of references set apart by empty lines",
    )
    parser.add_argument("--template", default="corrected", help="template set to parse with")
    parser.add_argument(
        "--lowercase", action="store_true", help="BLEU, chrF and distinct-n ignore case"
    )
    parser.add_argument("--bootstrap-samples", type=int, default=1000, metavar="N")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    if given.bootstrap_samples < 1:
        parser.error(f"--bootstrap-samples: found {given.bootstrap_samples}, expected 1 or more")
    if not 0 < given.confidence < 1:
        parser.error(f"--confidence: found {given.confidence}, expected between 0 and 1")
    try:
        scores = score_files(
            given.hypotheses,
            given.references,
            template=given.template,
            lowercase=given.lowercase,
            resampling=Resampling(given.bootstrap_samples, given.confidence, given.seed),
        )
    except InputError as error:
        print(f"peft-ablation: {error}", file=sys.stderr)
        return 1
    print(json.dumps(scores, indent=2, ensure_ascii=False))
    return 0
