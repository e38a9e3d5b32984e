"""The paragraph on a suite's report page: made of the suite's own studies and results."""

from docutils.core import publish_parts
from studies_made_up import outcome, words

from peft_ablation.comparison.suite import Outcome, suite_rows
from peft_ablation.comparison.suite_front import suite_front
from peft_ablation.comparison.suite_ranks import rank_tests


def front(*outcomes: Outcome, title: str = "Pets", smoke: bool = False) -> str:
    """The paragraph as a reader sees it: HTML without tags. Any fault of its markup fails."""
    text = suite_front(
        suite_rows(outcomes, 0.95), outcomes, rank_tests(outcomes, 0.95), title=title, smoke=smoke
    )
    parts = publish_parts(text, writer="html5", settings_overrides={"halt_level": 2})
    body = str(parts["body"])
    for tag in ("span", "/span", "strong", "/strong", "p", "/p"):
        body = body.replace(f"<{tag}>", "")
    return body.replace('<span class="docutils literal">', "").replace("\n", " ")


def test_it_names_arms_studies_metrics_and_what_came_out() -> None:
    lower = {"accuracy_difference_low": -0.3, "accuracy_difference_high": -0.1}
    within = {"accuracy_difference_low": -0.1, "accuracy_difference_high": 0.1}
    said = front(
        outcome("cats", {"fft": 0.7, "lora_a_": 0.5}, lora_a_=lower),
        outcome("dogs", {"fft": 0.7, "lora_a_": 0.7}, lora_a_=within),
    )
    assert "Pets compares 2 arms (fft, lora_a_) in 2 studies (cats, dogs)" in said
    assert "with 2 seeds an arm; scores are accuracy." in said
    assert "Against fft, lora_a_ is better in 0, worse in 1 and not told apart in 1 of 2" in said
    assert "The best mean rank, 1.25, has fft; too few arms or studies" in said
    assert "mean nothing" not in said


def test_it_says_what_friedman_s_test_finds() -> None:
    order = {"a": 0.9, "b": 0.8, "c": 0.7}
    said = front(*(outcome(f"s{place}", order) for place in range(8)))
    assert "the arms' ranks differ (Friedman's test, p &lt; 0.001)" in said
    chance = front(outcome("x", order), outcome("y", {"a": 0.7, "b": 0.9, "c": 0.8}))
    assert "differ no more than by chance" in chance


def test_signs_of_markup_in_titles_are_shown_as_they_are() -> None:
    title = "*A* `b`_ |c| d_ **e"
    said = front(outcome("x", {"a": 0.5}, said=words("F*_1|")), title=title, smoke=True)
    assert said.startswith(f"{title} compares 1 arm (a) in 1 study (x)")
    assert "scores are F*_1|" in said
    assert "A smoke run: its scores mean nothing." in said
