"""What ranks over studies can tell: tests over outcomes, what cannot be tested, published ranks."""

from typing import Any

import pytest
from studies_made_up import outcome, words

from peft_ablation.comparison.pages import Block, Items, Paragraph, Table, markdown
from peft_ablation.comparison.rank_tests import nemenyi_difference
from peft_ablation.comparison.suite import Outcome
from peft_ablation.comparison.suite_ranks import (
    published_ranks,
    rank_blocks,
    rank_rows,
    rank_tests,
)


def studies(number: int, **more: dict[str, float | None]) -> list[Outcome]:
    """Studies in which fft is above lora, and lora above head, by less in each."""
    found = [
        outcome(f"s{place}", {"fft": 0.9, "lora": 0.8 - 0.01 * place, "head": 0.1})
        for place in range(number)
    ]
    return [*found, *(outcome(name, scores) for name, scores in more.items())]


def page(outcomes: list[Outcome]) -> str:
    return markdown(rank_blocks(rank_tests(outcomes, 0.95), []))


def test_arms_in_one_order_in_eight_studies() -> None:
    tests = rank_tests(studies(8), 0.95)
    assert tests.mean_ranks == {"fft": 1, "lora": 2, "head": 3}
    assert tests.friedman is not None
    assert tests.friedman.chi_square == pytest.approx(16)  # studies x (arms - 1), the most
    assert tests.critical_difference == nemenyi_difference(3, 8, 0.95)
    assert tests.not_told_apart == [["fft", "lora"], ["lora", "head"]]
    # All of eight agree: 2 / 2⁸, twice that by Holm.
    assert {arm: test.p for arm, test in tests.signed.items()} == {
        "lora": pytest.approx(2 / 256), "head": pytest.approx(2 / 256),
    }  # fmt: skip
    assert tests.signed_holm == {"lora": pytest.approx(4 / 256), "head": pytest.approx(4 / 256)}
    assert [test.better for test in tests.signed.values()] == [0, 0]
    told = page(studies(8))
    assert "χ²(2) = 16.00" in told
    assert "F(2, 14) = ∞, p < 0.001" in told
    assert "| fft | 1.00 | head |" in told
    assert "| lora | 2.00 | none |" in told


def test_rows_of_the_table() -> None:
    rows = rank_rows(rank_tests(studies(8), 0.95))
    assert [(row["test"], row["arm"], row["against"]) for row in rows] == [
        ("friedman", None, None), ("iman_davenport", None, None), ("friedman_shuffled", None, None),
        ("nemenyi_critical_difference", None, None), ("nemenyi", "fft", "lora"),
        ("nemenyi", "fft", "head"), ("nemenyi", "lora", "head"), ("signed_ranks", "lora", "fft"),
        ("signed_ranks", "head", "fft"),
    ]  # fmt: skip
    by_test = {(row["test"], row["arm"], row["against"]): row for row in rows}
    assert by_test["nemenyi", "fft", "head"]["statistic"] == -2
    assert by_test["iman_davenport", None, None]["df_residual"] == 14
    assert len({tuple(row) for row in rows}) == 1


def test_a_fall_of_errors_is_a_gain() -> None:
    less = words("error", higher=False)
    found = rank_tests(
        [outcome(name, {"fft": 0.5, "lora": 0.4}, said=less) for name in "abc"], 0.95
    )
    assert found.signed["lora"].better == 3
    assert found.mean_ranks == {"fft": 2, "lora": 1}


def test_signed_ranks_take_every_study_that_has_both_arms() -> None:
    tests = rank_tests(studies(3, extra={"fft": 0.9, "lora": 0.95}), 0.95)
    assert {arm: test.studies for arm, test in tests.signed.items()} == {"lora": 4, "head": 3}
    assert tests.signed["lora"].better == 1
    assert tests.studies == ("s0", "s1", "s2")


def test_two_arms_and_few_studies_are_said_not_to_be_tested() -> None:
    told = page([outcome(name, {"fft": 0.5, "lora": 0.6}) for name in "abc"])
    assert "here are 2 arms with a mean rank, over 3 studies: not tested" in told
    # Of three studies the least p is 1/4.
    assert (
        "cannot tell 1 arm from fft at 95 %: were every study to agree, p, Holm, would be 0.25"
        in told
    )
    assert rank_rows(rank_tests([outcome("a", {"fft": 0.5})], 0.95))[0]["test"] is None
    assert "Signed ranks need two studies" in page([outcome("a", {"fft": 0.5, "lora": 0.6})])


def test_no_arm_in_all_studies_and_different_references() -> None:
    told = page([outcome("a", {"fft": 0.5}), outcome("b", {"lora": 0.5})])
    assert "here are no arms with a mean rank, over 0 studies: not tested" in told
    assert "need one reference arm in all studies: not tested" in told


def test_six_agreeing_studies_can_tell_one_arm_apart_and_not_two() -> None:
    pair = [outcome(f"s{place}", {"fft": 0.5, "lora": 0.6}) for place in range(6)]
    assert "cannot tell" not in page(pair)
    assert "cannot tell 2 arms" in page(studies(6))


def test_where_ranks_differ_by_chance_nemenyi_tells_nothing_apart() -> None:
    mixed = [
        outcome("a", {"fft": 3.0, "lora": 2.0, "head": 1.0}),
        outcome("b", {"fft": 1.0, "lora": 3.0, "head": 2.0}),
        outcome("c", {"fft": 2.0, "lora": 1.0, "head": 3.0}),
    ]
    tests = rank_tests(mixed, 0.95)
    assert not tests.differ
    assert tests.not_told_apart == [["fft", "lora", "head"]]
    assert "differ no more than by chance" in page(mixed)


def test_two_studies_that_agree_are_chance_whatever_the_f_says() -> None:
    tests = rank_tests(studies(2), 0.95)
    assert tests.friedman is not None
    assert tests.friedman.p_f == 0
    assert not tests.differ


def test_nemenyi_counts_only_where_friedman_finds_a_difference() -> None:
    # Of ten arms one is mostly at the front and one at the back, the others turn about.
    middle = [f"m{place}" for place in range(8)]
    found = []
    for place, rank in enumerate((1, 1, 1, 5, 3, 5, 3, 5)):
        order = middle[place:] + middle[:place]
        order.insert(rank - 1, "first")
        order.insert(10 - rank, "last")
        found.append(outcome(f"s{place}", {arm: 10.0 - n for n, arm in enumerate(order)}))
    tests = rank_tests(found, 0.95)
    assert (tests.mean_ranks["first"], tests.mean_ranks["last"]) == (3, 8)
    assert not any({"first", "last"} <= set(group) for group in tests.not_told_apart)
    assert not tests.differ
    assert "| first | 3.00 | none |" in page(found)


def number(arm: str, value: str, source: str = "report", **more: Any) -> dict[str, Any]:
    return {
        "arm": arm, "published_as": arm, "metric": "accuracy", "value": value, "unit": "%",
        "scale": 100.0, "source": source, "not_comparable": "", **more,
    }  # fmt: skip


def test_published_scores_are_ranked_beside_ours_of_the_same_arms_and_studies() -> None:
    own = studies(3)
    published = {
        "s0": [number("fft", "90"), number("lora", "91"), number("lora", "10"), number("x", "99")],
        "s1": [number("fft", "1", metric="other"), number("fft", "92"), number("lora", "91")],
        # One arm alone, and a source that has but one: nothing to rank.
        "s2": [number("lora", "80"), number("lora", "70", "elsewhere")],
    }
    (found,) = published_ranks(own, published)
    assert (found.source, found.studies) == ("report", ("s0", "s1"))
    assert found.published == {"fft": 1.5, "lora": 1.5}
    # head is not ranked with them.
    assert found.ours == {"fft": 1.0, "lora": 2.0}
    blocks = rank_blocks(rank_tests(own, 0.95), [found])
    assert ["fft", "1.50", "1.00", "s0, s1", "report"] in _rows(blocks)
    assert any("not the source's own words" in line for line in _lines(blocks))
    assert published_ranks(own, {}) == []


def test_a_published_unit_is_no_other_score() -> None:
    published = {"s0": [number("fft", "90"), number("lora", "0.95", scale=1.0)]}
    (found,) = published_ranks(studies(1), published)
    assert found.published == {"fft": 2.0, "lora": 1.0}


def _rows(blocks: list[Block]) -> list[list[str]]:
    return [list(row) for block in blocks if isinstance(block, Table) for row in block.rows]


def _lines(blocks: list[Block]) -> list[str]:
    items = [line for block in blocks if isinstance(block, Items) for line in block.items]
    return [*items, *(block.text for block in blocks if isinstance(block, Paragraph))]
