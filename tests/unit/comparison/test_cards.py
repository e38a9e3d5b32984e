"""A model's card: metadata that a hub reads, the run's scores with intervals, the data's terms."""

import pytest
from huggingface_hub import ModelCard

from peft_ablation.comparison.cards import model_card
from peft_ablation.comparison.words import Words

README = "---\nlibrary_name: peft\n---\n# lora, seed 1, of study toy\n\nLoad: `PeftModel`.\n"
WORDS = Words(
    example="report",
    group="subject",
    headline="f1",
    metrics={
        name: {
            "name": name, "title": title, "unit": "0 to 1", "digits": 2, "compared": shown,
            "definition": f"what {name} is", "higher_is_better": True,
        }
        for name, title, shown in (
            ("f1", "findings F1", True), ("bleu", "BLEU", True), ("hidden", "hidden", False),
        )
    },
    shown=("f1",),
    baselines={"constant": "always the same"},
    claims=(),
    extras=(),
)  # fmt: skip
SCORES = {
    "f1": 0.5, "bleu": None, "hidden": 0.1, "intervals": {"f1": [0.25, 0.75]},
    "resampling": {"confidence": 0.9},
}  # fmt: skip
ROW = {
    "arm": "lora", "seeds": 2, "reference_arm": "fft", "test_examples": 653, "test_groups": 273,
    "constant_f1": 0.1,
    "f1": 0.6, "f1_low": 0.4, "f1_high": 0.8,
    "f1_difference": -0.1, "f1_difference_low": -0.2, "f1_difference_high": 0.0,
    "bleu": None, "bleu_low": None, "bleu_high": None,
    "bleu_difference": None, "bleu_difference_low": None, "bleu_difference_high": None,
}  # fmt: skip
CONFIG = {"task": {"name": "image_captioning"}, "data": {"source": "phantom"}}


def made(readme: str = README, row: dict = ROW, **changes) -> str:
    told = {
        "seed": 1, "base": "owner/model", "config": CONFIG, "study": "toy", "confidence": 0.95,
        "kind": "image-to-text", "terms": [],
    }  # fmt: skip
    return model_card(readme, row, SCORES, WORDS, **{**told, **changes})


def test_the_hubs_own_reader_finds_the_runs_scores_and_intervals():
    data = ModelCard(made()).data
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == (
        "f1",
        "findings F1",
        0.5,
    )
    assert result.metric_args == {
        "interval": [0.25, 0.75], "confidence": 0.9, "resampled": "test subjects",
    }  # fmt: skip
    assert (result.task_type, result.dataset_type) == ("image-to-text", "phantom")
    assert (result.dataset_split, result.task_name) == ("test", "image captioning")
    assert (data.library_name, data.base_model) == ("peft", "owner/model")
    assert data.pipeline_tag == "image-to-text"
    assert data.model_name == "toy, lora, seed 1"
    assert data.license is None


def test_the_text_sets_the_run_beside_its_arm():
    text = ModelCard(made()).text
    assert "# lora, seed 1, of study toy\n\nLoad: `PeftModel`." in text
    assert (
        "| metric | this model (seed 1) | lora, mean over 2 seeds | difference to fft | "
        "without training: always the same |" in text
    )
    assert (
        "| Findings F1 | 0.50 [0.25, 0.75] | 0.60 [0.40, 0.80] | -0.10 [-0.20, +0.00] | 0.10 |"
        in text
    )
    assert "| BLEU | – | – | – | – |" in text
    assert "hidden" not in text
    assert "On 653 test reports of 273 subjects. Brackets: for this model a 90 % interval" in text


def test_the_reference_is_not_compared_with_itself():
    assert "difference to" not in made(row={**ROW, "reference_arm": "lora"})
    assert "difference to" not in made(row={**ROW, "reference_arm": None})


@pytest.mark.parametrize("terms", [[], ["Do not share."]])
def test_terms_of_the_data_stand_before_the_results_and_in_the_licence(terms: list[str]):
    card = ModelCard(made(terms=terms))
    assert ("## Before sharing\n\nDo not share.\n\n## Results" in card.text) == bool(terms)
    assert card.data.license == ("other" if terms else None)


def test_a_folder_without_metadata_and_a_base_of_no_hub_give_none():
    card = made("# none: the base as it is\n", base=None, kind="")
    data = ModelCard(card).data
    assert (data.library_name, data.base_model, data.pipeline_tag) == (None, None, None)
    assert "null" not in card
    assert data.eval_results[0].task_type == "other"


def test_same_results_give_the_same_bytes():
    assert made() == made()
