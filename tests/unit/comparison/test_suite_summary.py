"""The paragraph that says what a suite found: made of the suite's own studies and results."""

from studies_made_up import outcome, words

from peft_ablation.comparison.suite import Outcome, suite_rows
from peft_ablation.comparison.suite_ranks import rank_tests
from peft_ablation.comparison.suite_summary import suite_summary


def told(*outcomes: Outcome, title: str = "Pets", smoke: bool = False) -> str:
    rows, tests = suite_rows(outcomes, 0.95), rank_tests(outcomes, 0.95)
    return suite_summary(rows, outcomes, tests, title=title, smoke=smoke)


def test_it_names_arms_studies_metrics_and_what_came_out() -> None:
    lower = {"accuracy_difference_low": -0.3, "accuracy_difference_high": -0.1}
    within = {"accuracy_difference_low": -0.1, "accuracy_difference_high": 0.1}
    said = told(
        outcome("cats", {"fft": 0.7, "lora_a_": 0.5}, lora_a_=lower),
        outcome("dogs", {"fft": 0.7, "lora_a_": 0.7}, lora_a_=within),
    )
    assert "Pets compares 2 arms (fft and lora_a_) in 2 studies (cats and dogs)" in said
    assert "with 2 seeds an arm; scores are accuracy." in said
    assert "Against fft, lora_a_ is better in 0, worse in 1 and not told apart in 1 of 2" in said
    assert "The best mean rank, 1.25, has fft; too few arms or studies" in said
    assert "mean nothing" not in said
    assert "its run alone" not in said
    assert "its run alone" in told(outcome("x", {"a": 0.5, "b": 0.4}, a={"seeds": 1}))


def test_it_says_what_friedman_s_test_finds() -> None:
    order = {"a": 0.9, "b": 0.8, "c": 0.7}
    said = told(*(outcome(f"s{place}", order) for place in range(8)))
    assert "the arms' ranks differ (Friedman's test, p < 0.001)" in said
    chance = told(outcome("x", order), outcome("y", {"a": 0.7, "b": 0.9, "c": 0.8}))
    assert "differ no more than by chance" in chance


def test_a_smoke_run_is_called_so() -> None:
    said = told(outcome("x", {"a": 0.5}, said=words("f1")), smoke=True)
    assert said.startswith("Pets compares 1 arm (a) in 1 study (x)")
    assert "scores are f1." in said
    assert "A smoke run: its scores mean nothing." in said
