"""The shipped studies over rank: their lines, their smoke, and SQuAD's questions as prompts."""

from pathlib import Path

import pytest

from peft_ablation.config.loading import load_config
from peft_ablation.config.suite import load_suite
from peft_ablation.config.swept import swept_arms
from peft_ablation.data.examples import checked_examples

ROOT = Path(__file__).resolve().parents[3]
STUDIES = [ROOT / "config" / "studies"]
DATA = {"e2e_gpt2": "e2e-nlg", "squad_gpt2": "squad-xquad-en"}


@pytest.mark.parametrize("suite", ["e2e_gpt2_ranks", "squad_gpt2_ranks"])
def test_the_smoke_of_a_suite_sweeps_three_ranks_on_bases_of_three_sizes(
    suite: str, shared_data: Path
) -> None:
    root = shared_data / DATA[suite.removesuffix("_ranks")]
    site = {"suite": suite, "data_root": str(root), "smoke": True}
    found = load_suite(site, [ROOT / "config" / "suites"], STUDIES)
    assert [config.name.removesuffix(".smoke") for config in found.studies] == [
        suite.replace("ranks", f"{size}ranks") for size in ("small_", "", "large_")
    ]
    sizes = []
    for config in found.studies:
        assert config.swept == {"r": ["lora_r1", "lora_r4", "lora_r16"]}
        assert config.study.base.random is not None
        sizes.append(config.study.base.random.config["n_embd"])
    assert sizes == sorted(set(sizes))


def test_other_studies_over_rank_have_lines_too() -> None:
    found = load_config({"study": "phantom_cxr_ranks"}, STUDIES)
    assert found.swept == {"r": [f"lora_r{r}" for r in (1, 2, 4, 8, 16, 32)]}
    assert found.reference == "fft"
    assert load_config({"study": "phantom_cxr"}, STUDIES).swept == {}


def test_rates_that_are_chosen_are_no_swept_setting() -> None:
    lora = {"method": "lora", "r": 8, "learning_rate": 1e-3}
    rates = {f"a{number}": {**lora, "learning_rate": 10.0**-number} for number in (4, 5, 6)}
    ranks = {f"b{r}": {**lora, "r": r} for r in (1, 2, 4)}
    assert list(swept_arms({**rates, **ranks}, tuned=False)) == ["r", "learning_rate"]
    assert swept_arms({**rates, **ranks}, tuned=True) == {"r": ["b1", "b2", "b4"]}
    two = {"b1": ranks["b1"], "b2": ranks["b2"]}
    assert swept_arms(two, tuned=False) == {}


def test_squad_is_asked_for_answers_by_exact_match_and_token_f1(shared_data: Path) -> None:
    root = str(shared_data / DATA["squad_gpt2"])
    site = {"study": "squad_gpt2_ranks", "data_root": root, "smoke": True}
    config = load_config(site, STUDIES)
    table, _ = config.source.read()
    table = checked_examples(table, "table")
    settings = config.study.task.model_dump(mode="json")
    bound = config.task(settings, table)
    assert bound.headline == "token_f1"
    assert {"exact_match", "token_f1", "bleu"} <= {metric.name for metric in bound.metrics}
    row = table.row(0, named=True)
    asked = settings["prompt"].format(prompt=row["prompt"])
    passage, _, rest = asked.partition("\nQuestion: ")
    assert row["reference"][0] in passage
    assert rest.endswith("?\nAnswer:")
    # What is never divided is the first unit of the source, here the article.
    assert config.study.split.unit is None
    assert next(iter(config.source.units)) == "group"
    assert "Super_Bowl_50" in set(table["group"])
