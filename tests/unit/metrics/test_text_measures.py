"""chrF, NIST, METEOR, ROUGE-L, CIDEr and SQuAD's measures of generated texts."""

import math
import shutil
from pathlib import Path

import apt_packages
import numpy as np
import polars as pl
import pytest
from sacrebleu.metrics.chrf import CHRF

from peft_ablation.errors import InputError
from peft_ablation.metrics import chrf, coco, nist
from peft_ablation.metrics.answers import answer_statistics, token_f1
from peft_ablation.metrics.metric import Metric, statistics_of, sum_columns, value_of
from peft_ablation.metrics.texts import answer_metrics, chrf_metric, coco_metrics, nist_metric

INSTALL = "apt-get install --no-install-recommends default-jre-headless"
TEXTS = ["The cat sat on the mat.", "", "a dog", "It rains today, £5!", "the mat"]
TRUTHS = [
    ["The cat is on the mat.", "There is a cat."],
    ["nothing here"],
    ["a dog", "one dog", "a big dog"],
    ["It rained yesterday."],
    [""],
]


@pytest.fixture(scope="session")
def java() -> None:
    """Have Java, installed by apt where that may be; skip where not, and say why."""
    apt_packages.install("Java", INSTALL, lambda: () if shutil.which("java") else ("java",))
    lacking = coco.missing()
    if lacking is not None:
        pytest.skip(f"METEOR, ROUGE-L and CIDEr are not tested: {lacking}")


def scores(metric: Metric, texts: list[str], truths: list[list[str]]) -> tuple[float, np.ndarray]:
    """Return a metric of all texts, and of each."""
    pairs = pl.DataFrame({"hypothesis": texts, "reference": truths})
    columns, each = sum_columns([metric]), statistics_of([metric], pairs)
    return float(value_of(metric, columns, each.sum(axis=0))), value_of(metric, columns, each)


@pytest.fixture(scope="session")
def golden(shared_data: Path) -> tuple[list[str], list[list[str]], pl.DataFrame]:
    folder = shared_data / "e2e-metric-golden"
    texts = (folder / "hyp_first_ref.txt").read_text().splitlines()
    blocks = (folder / "refs.txt").read_text().strip("\n").split("\n\n")
    segments = pl.read_csv(folder / "hyp_first_ref.segments.tsv", separator="\t", quote_char=None)
    return texts, [block.split("\n") for block in blocks], segments


@pytest.mark.parametrize("lowercase", [False, True])
def test_chrf_is_sacrebleus_of_texts_and_of_any_part(lowercase: bool) -> None:
    reference = CHRF(lowercase=lowercase)
    found, each = scores(chrf_metric(lowercase=lowercase), TEXTS, TRUTHS)
    streams = [[texts[n] if n < len(texts) else None for texts in TRUTHS] for n in range(3)]
    assert found == pytest.approx(reference.corpus_score(TEXTS, streams).score)
    for score, text, truth in zip(each, TEXTS, TRUTHS, strict=True):
        assert score == pytest.approx(reference.sentence_score(text, truth).score)
    part = chrf.text_statistics(TEXTS, TRUTHS, lowercase=lowercase)[[0, 3, 3]].sum(axis=0)
    streams = [[TRUTHS[n][0] for n in (0, 3, 3)], [TRUTHS[0][1], None, None]]
    assert chrf.chrf(part) == pytest.approx(
        reference.corpus_score([TEXTS[n] for n in (0, 3, 3)], streams).score
    )


def test_nist_of_a_text_by_hand() -> None:
    # References: "a b a c" and "a d": six words, a three times, b c d once; "a b" once of three a.
    sums = nist.text_statistics(["A b d"], [["a b a c", "a d"]])[0]
    assert sums[:5] == pytest.approx([1 + math.log2(6) + math.log2(6), math.log2(3), 0, 0, 0])
    assert sums[5:10].tolist() == [3, 2, 1, 0, 0]
    assert sums[10] == 3.0
    expected = (1 + 2 * math.log2(6)) / 3 + math.log2(3) / 2
    assert nist.nist(sums) == pytest.approx(expected)


def test_nist_counts_a_repeated_word_as_often_as_one_reference_has_it() -> None:
    once = nist.text_statistics(["a a a"], [["a b", "a a c"]])[0]
    assert once[0] == pytest.approx(2 * math.log2(5 / 3))


def test_nist_is_halved_at_two_thirds_of_the_length() -> None:
    whole = np.zeros(11)
    whole[[0, 5, 10]] = 8.0, 4.0, 6.0
    assert nist.nist(whole) == pytest.approx(8 / 4 / 2)
    whole[10] = 4.0
    assert nist.nist(whole) == pytest.approx(8 / 4)


def test_nist_of_nothing_is_zero() -> None:
    assert nist.nist(nist.text_statistics(["", "x"], [[""], ["y"]]).sum(axis=0)) == 0
    assert nist.nist(nist.text_statistics([""], [["a b"]])[0]) == 0
    assert nist.nist(nist.text_statistics(["a"], [[""]])[0]) == 0


def test_nist_is_that_of_mteval(golden: tuple[list[str], list[list[str]], pl.DataFrame]) -> None:
    texts, truths, segments = golden
    assert scores(nist_metric(), texts, truths)[0] == pytest.approx(8.5789, abs=1e-4)
    # The reference implementation scores each text as a test set of its own.
    alone = [
        float(nist.nist(nist.text_statistics([text], [truth])[0]))
        for text, truth in zip(texts, truths, strict=True)
    ]
    close = np.abs(np.array(alone) - segments["NIST"].to_numpy()) < 1e-4
    assert close.mean() >= 0.99


@pytest.mark.usefixtures("java")
def test_coco_scores_are_those_of_the_reference_implementation(
    golden: tuple[list[str], list[list[str]], pl.DataFrame],
) -> None:
    texts, truths, segments = golden
    expected = {
        "meteor": ("METEOR", 0.4498),
        "rouge_l": ("ROUGE_L", 0.6528),
        "cider": ("CIDEr", 1.8543),
    }
    for metric in coco_metrics():
        column, corpus = expected[metric.name]
        found, each = scores(metric, texts, truths)
        assert found == pytest.approx(corpus, abs=1e-4)
        assert (np.abs(each - segments[column].to_numpy()) < 1e-4).mean() >= 0.99


@pytest.mark.usefixtures("java")
def test_empty_texts_are_scored_and_shift_no_other() -> None:
    texts = ["a small dog", "", "  ", "a\x0bsmall\u2028dog", "x ||| y", "a small dog"]
    truths = [["a small dog"], ["a cat"], [""], ["a small dog"], ["x y"], [""]]
    each = {metric.name: scores(metric, texts, truths)[1] for metric in coco_metrics()}
    assert each["rouge_l"][[0, 3]].tolist() == [1.0, 1.0]
    assert each["rouge_l"][1] == 0
    assert each["meteor"][0] == each["meteor"][3] > 0.9
    assert each["meteor"][[1, 2, 5]].tolist() == [0, 0, 0]
    assert np.isfinite(each["cider"]).all()


@pytest.mark.usefixtures("java")
def test_tokens_are_lower_case_words_without_punctuation() -> None:
    found = coco.tokenised(["A dog, isn't it?"], [["Blue-Sky (£20)", "ok."]])
    assert found == (["a dog is n't it"], [["blue-sky -lrb- # 20 -rrb-", "ok"]])


def test_missing_java_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peft_ablation.metrics.coco.find_spec", lambda _: object())
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert coco.missing() == "java is not installed (apt-get install default-jre-headless)"
    with pytest.raises(InputError, match=r"java is not installed .*; or leave coco out of task"):
        coco.tokenised(["a"], [["a"]])
    monkeypatch.setattr("peft_ablation.metrics.coco.find_spec", lambda _: None)
    assert "pycocoevalcap is not installed" in str(coco.missing())


@pytest.mark.parametrize(
    ("answer", "truth", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("in 1889", "1889", 2 / 3),
        ("the the cat cat", "cat", 2 / 3),
        ("", "the", 1.0),
        ("", "cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_token_f1_by_hand(answer: str, truth: str, f1: float) -> None:
    assert token_f1(answer, truth) == pytest.approx(f1)


def test_the_best_reference_of_an_answer_counts() -> None:
    texts, truths = ["a Cat.", "big dog"], [["dog", "the cat"], ["dog", "a bigger dog"]]
    assert answer_statistics(texts, truths).tolist() == [[1, 1, 1], [0, pytest.approx(2 / 3), 1]]
    exact, f1 = answer_metrics()
    assert scores(exact, texts, truths)[0] == 0.5
    assert scores(f1, texts, truths)[0] == pytest.approx((1 + 2 / 3) / 2)
