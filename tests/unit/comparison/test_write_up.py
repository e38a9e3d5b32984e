"""What is written of a finished study: its paragraph, its methods, its table for LaTeX."""

import re

import pytest

from peft_ablation.comparison.captions import caption, listed, rst_text
from peft_ablation.comparison.paper import latex_table, methods_text
from peft_ablation.comparison.summary import summary
from peft_ablation.comparison.words import Words

WORDS = Words(
    example="report",
    group="subject",
    headline="f1",
    metrics={
        name: {
            "name": name, "title": title, "unit": "0 to 1", "digits": 2, "compared": True,
            "definition": f"what {name} is", "higher_is_better": higher,
        }
        for name, title, higher in (("f1", "findings F1", True), ("loss", "test loss", False))
    },
    shown=("f1",),
    baselines={"constant": "commonest report, always", "prior": "commonest findings"},
    claims=(),
    extras=(),
)  # fmt: skip
CONFIG = {
    "task": {"name": "image_captioning"},
    "data": {"source": "phantom"},
    "split": {"seed": 33},
    "train": {
        "epochs": 4, "seeds": [0, 1], "batch_size": 64, "weight_decay": 0.01, "max_grad_norm": 1.0,
        "schedule": "one_cycle", "warmup": 0.1, "early_stopping": None,
    },
    "arms": {
        "fft": {"method": "full", "learning_rate": 0.002, "base": None},
        "lora_": {"method": "lora", "targets": "text", "r": 8, "dora": False,
                  "learning_rate": 0.01, "init_from": None},
        "base": {"method": "none", "learning_rate": 1.0},
    },
}  # fmt: skip
ACCOUNT = {
    "rows": {"train": 1234, "val": 400, "test": 653}, "unit": "subject",
    "leakage": {"subject": {"train_test": 0, "val_test": 0}, "image": {"train_test": 3}},
}  # fmt: skip
MANIFEST = {
    "code": {"version": "0.1.0", "git_commit": "0123456789abcdef", "git_modified": False},
    "packages": {"torch": "2.13.0", "peft": None, "snakemake": "9.27.1"},
    "python": "3.11.7",
}


def row(arm: str, f1: float | None, **changes) -> dict:
    found = {
        "arm": arm, "base": "tiny", "seeds": 2, "reference_arm": "fft", "test_examples": 653,
        "test_groups": 273, "epochs": 4, "learning_rate": CONFIG["arms"].get(arm, CONFIG["arms"]
        ["fft"])["learning_rate"], "precision": "fp32", "device": "cpu", "train_seconds": 61.23,
        "peak_memory_mb": 1234.5, "trainable_parameters": 1234567, "constant_f1": 0.1,
        "prior_f1": 0.26, "constant_loss": None, "f1_shuffled": 0.1, "f1_verdict": None,
        "f1_margin": None,
    }  # fmt: skip
    for metric, value in (("f1", f1), ("loss", 0.5)):
        found |= {
            metric: value,
            f"{metric}_low": None if value is None else value - 0.02,
            f"{metric}_high": None if value is None else value + 0.02,
            f"{metric}_difference": None,
            f"{metric}_difference_low": None,
            f"{metric}_difference_high": None,
        }
    return found | changes


FFT = row("fft", 0.65)
LORA = row(
    "lora_", 0.64, f1_difference=-0.01, f1_difference_low=-0.03, f1_difference_high=0.01,
    f1_verdict="equivalent within the margin", f1_margin=0.05,
)  # fmt: skip
BASE = row(
    "base", 0.2, f1_difference=-0.45, f1_difference_low=-0.5, f1_difference_high=-0.4,
    f1_verdict="worse", f1_margin=0.05, epochs=0,
)  # fmt: skip
ROWS = [FFT, BASE, LORA]


def told(rows=ROWS, study="phantom_cxr", config=CONFIG) -> str:
    return summary(rows, WORDS, study=study, config=config, training=1234, confidence=0.95)


def test_a_study_in_one_paragraph():
    assert told() == (
        "Study phantom_cxr compares fft, base and lora_ on the task image captioning, starting "
        "from tiny: 1,234 training reports from the source phantom, at most 4 epochs, 2 seeds "
        "each, scored on 653 test reports of 273 subjects. Findings F1 (mean over seeds, 95 % "
        "interval), "
        "best first: fft 0.65 [0.63, 0.67]; lora_ 0.64 [0.62, 0.66]; base 0.20 [0.18, 0.22]. "
        "Against fft, worse: base (-0.45 [-0.50, -0.40]); equivalent within the margin of 0.05: "
        "lora_ (-0.01 [-0.03, +0.01]). Without training, “commonest findings” has 0.26, which base "
        "does not beat."
    )


def test_a_smoke_run_says_so_first():
    assert told(study="tiny.smoke").startswith("A smoke run: its scores mean nothing.")


def test_without_a_test_the_interval_speaks_and_one_seed_for_its_run_alone():
    alone = {**BASE, "f1_verdict": None, "seeds": 1}
    assert "Against fft, worse in these runs: base" in told([FFT, alone])
    assert "1 to 2 seeds each" in told([FFT, alone])
    unsure = {**alone, "f1_difference_high": 0.4, "seeds": 2}
    assert "Against fft, not told apart: base" in told([FFT, unsure])


def test_without_a_reference_nothing_is_compared():
    rows = [{**one, "reference_arm": None, "f1_verdict": None} for one in ROWS]
    assert "Against" not in told(rows)


def test_best_is_lowest_where_less_is_better():
    words = Words(
        **{**vars(WORDS), "headline": "loss", "baselines": {"constant": "always the same"}}
    )
    rows = [
        row(arm, 0.1, loss=loss, constant_loss=0.8, reference_arm=None)
        for arm, loss in (("a", 0.9), ("b", 0.7))
    ]
    text = summary(rows, words, study="s", config=CONFIG, training=1, confidence=0.9)
    assert "best first: b 0.70 [0.48, 0.52]; a 0.90" in text
    assert "which a does not beat" in text


def test_of_many_arms_the_best_are_named_and_the_last():
    rows = [FFT, *(row(f"arm{n}", 0.5 - n / 100) for n in range(11))]
    text = told(rows)
    assert re.findall(r"(\w+) 0\.\d\d \[", text) == [
        "fft", "arm0", "arm1", "arm2", "arm3", "arm4", "arm10",
    ]  # fmt: skip
    assert "; 5 more; arm10" in text


def test_an_arm_without_a_score_is_left_out_of_the_order():
    assert "best first: fft 0.65 [0.63, 0.67]." in told([FFT, row("none", None)])


@pytest.mark.parametrize(
    ("items", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists(items, text):
    assert listed(items) == text


def test_captions_show_names_as_they_are():
    """docutils gives back the text, and takes no underscore or asterisk for markup."""
    from docutils.core import publish_doctree

    text = caption("my_study_", CONFIG, "lora_")
    plain = (
        "Study my_study_, task image captioning, data from phantom: fft, lora_ and base, 2 seeds "
        "each, at most 4 epochs; reference arm lora_."
    )
    assert publish_doctree(text).astext() == plain
    hostile = "a_ *b* `c` |d| **e** \\f"
    assert publish_doctree(rst_text(hostile)).astext() == hostile


def methods(rows=ROWS, **changes) -> str:
    return methods_text(
        rows, WORDS, study="phantom_cxr", config=CONFIG | changes.pop("config", {}),
        manifest=MANIFEST, account=ACCOUNT | changes, confidence=0.95, tested=("f1",),
    )  # fmt: skip


def test_methods_name_arms_data_training_and_software():
    text = methods()
    for part in (
        "fft (method full), base (method none) and lora_ (method lora, targets text, r 8)",
        "1,234 training, 400 validation and 653 test reports (seed 33); no subject is in two ",
        "trained twice (order of examples, dropout and initialisation by the seeds 0 and 1) for 4",
        "for 4 epochs, in batches of 64, with AdamW (weight decay 0.01; gradients clipped to norm "
        "1; one-cycle schedule with a warm-up over 10 % of the steps; fp32)",
        "Peak learning rates: fft 0.002 and lora_ 0.01.",
        "without training here: base.",
        "findings F1 (what f1 is); test loss (what loss is)",
        "corrected by Holm's method over 2 tests; the margin of non-inferiority was 0.05 in "
        "findings F1",
        "“commonest report, always” and “commonest findings”",
        "peft-ablation 0.1.0, commit 0123456789ab, Python 3.11.7, torch 2.13.0 and snakemake",
    ):
        assert part in text, part


def test_methods_do_not_claim_what_is_not_so():
    assert "in two of them" not in methods(leakage={"subject": {"train_test": 1}})
    assert "permuted" not in methods([{**one, "f1_shuffled": None} for one in ROWS])
    assert "Holm" not in methods([FFT, LORA])
    assert "p values" not in methods([FFT])
    assert "that run alone" in methods([{**FFT, "seeds": 1}])
    assert "that run alone" not in methods()
    assert "tuning" not in methods() and "trials" not in methods()
    tuned = {**FFT, "tuning": "tuned", "tuning_trials": 5}
    text = methods([tuned, {**LORA, "tuning": "not tuned", "tuning_trials": 0}])
    assert "Those of fft were chosen by 5 trials an arm" in text
    assert "Those of lora_ were set beforehand, without tuning here." in text
    assert "AdamW" not in methods([{**BASE, "reference_arm": None}])


def test_the_table_for_latex():
    rows = [FFT, {**LORA, "arm": "a_b&50%"}]
    text = latex_table(rows, WORDS, study="phantom_cxr", confidence=0.95)
    assert text == (
        "% Needs \\usepackage{booktabs}.\n"
        "\\begin{table}\n\\centering\n"
        "\\caption{Study phantom\\_cxr: 653 test reports of 273 subjects; means over seeds with "
        "95 \\% intervals over subjects and seeds. Differences are to fft.}\n"
        "\\label{tab:phantom-cxr}\n"
        "\\begin{tabular}{lrrrrrr}\n\\toprule\n"
        "Arm & Findings F1 & Test loss & Difference in findings F1 & Trained parameters & "
        "Training (s) & Peak memory (MB) \\\\\n\\midrule\n"
        "fft & 0.65 [0.63, 0.67] & 0.50 [0.48, 0.52] & -- & 1,234,567 & 61.2 & 1,234 \\\\\n"
        "a\\_b\\&50\\% & 0.64 [0.62, 0.66] & 0.50 [0.48, 0.52] & "
        "$-$0.01 [$-$0.03, $+$0.01] & 1,234,567 & 61.2 & 1,234 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
