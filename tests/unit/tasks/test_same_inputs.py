"""Controls that give every example the same input: one image or no text is predicted as it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from text_studies import make_text_base
from tiny_study import TinyStudy

from peft_ablation.tasks import open_task
from peft_ablation.tasks.text_classification import Settings, TextClassification
from peft_ablation.tasks.text_classification.examples import TextExamples

CPU = torch.device("cpu")


class Everywhere:
    """A source of images that has one image at every place."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def __getitem__(self, positions: Any) -> torch.Tensor:
        return self.image.repeat(len(positions), 1, 1)


def told(predictor: Any, examples: Any, indices: list[int]) -> dict[str, Any]:
    with torch.no_grad():
        return dict(predictor(examples, np.array(indices)))


def test_a_mean_image_for_all_is_predicted_as_if_each_had_it(tiny_study: TinyStudy) -> None:
    run = tiny_study.inputs("lora_text", {"max_new_tokens": 12})
    task = open_task(run.task, run.train)
    examples = task.examples(tiny_study.split("test"), run.assets, run.base)
    model = task.load_model(run.base)
    predictor = task.predictor(model, run.base, CPU)
    (control,) = task.controls().values()
    changed = control.change(examples, 0)
    cache = examples.images.cache
    ids = task.train["example_id"].to_list()
    mean = np.rint(cache.pixels(cache.position(ids)).astype(np.float64).mean(axis=0))
    assert (changed.same.numpy()[0] == mean).all()
    each = replace(examples, images=Everywhere(changed.same))
    for indices in ([0, 1, 2], [3, 4], [5]):
        ours, expected = (told(predictor, rows, indices) for rows in (changed, each))
        assert ours["hypothesis"] == expected["hypothesis"]
        assert len(ours["hypothesis"]) == len(indices)
        assert ours["nll"] == pytest.approx(expected["nll"], rel=1e-5)
    # The text of another image is another's.
    other = replace(changed, same=torch.zeros_like(changed.same))
    black = replace(examples, images=Everywhere(other.same))
    assert told(predictor, other, [0])["hypothesis"] == told(predictor, black, [0])["hypothesis"]


@pytest.mark.parametrize("kind", ["roberta", "bert", "gpt2", "llama"])
@pytest.mark.parametrize("pairs", [False, True])
def test_an_empty_text_is_predicted_alike_for_all(tmp_path: Any, kind: str, pairs: bool) -> None:
    import polars as pl

    base = make_text_base(tmp_path / "base", kind)
    table = pl.DataFrame(
        {
            "example_id": list("abcd"), "group": list("abcd"), "label": ["x", "y", "x", "y"],
            "text": ["a cat", "the dog ran", "no", "two birds"],
        }
    )  # fmt: skip
    if pairs:
        table = table.with_columns(text_pair=pl.lit("a dog"))
    table.write_parquet(tmp_path / "t.parquet")
    settings = Settings(name="text_classification").model_dump(mode="json")
    task = TextClassification(settings, table)
    torch.manual_seed(1)
    predictor = task.predictor(task.load_model(base), base, CPU)
    examples = task.examples(tmp_path / "t.parquet", {}, base)
    empty = task.controls()["empty_text"].change(examples, 0)
    assert set(empty.texts) == {""}
    assert empty.lengths.min() >= 1
    together = told(predictor, empty, [0, 1, 2, 3])
    assert len(set(together["predicted"])) == 1
    assert together["probability"] == pytest.approx([together["probability"][0]] * 4)
    # Two classes: the likelihoods of both labels add up to 1.
    likelihood = np.exp(-np.array(together["nll"]))
    assert likelihood[0] + likelihood[1] == pytest.approx(1)
    assert told(predictor, examples, [1])["probability"] != together["probability"][:1]


def test_a_text_that_no_token_stands_for_is_one_pad() -> None:
    nothing = [{"input_ids": [], "token_type_ids": []}]
    examples = TextExamples(
        ["a"], np.array([0]), ["a cat"], None, [{"input_ids": [5], "token_type_ids": [0]}],
        lambda texts, _: nothing * len(texts), 7,
    )  # fmt: skip
    batch = examples.emptied().batch(np.array([0]))
    assert batch["input_ids"].tolist() == [[7]]
    assert batch["token_type_ids"].tolist() == [[0]]
    assert batch["attention_mask"].tolist() == [[1]]
