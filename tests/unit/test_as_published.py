"""Each defect of a published protocol, by hand, and against transformers' own loss."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import GitConfig, GitForCausalLM

from peft_ablation.as_published import AsPublished, of_training
from peft_ablation.as_published.protocol import Protocol
from peft_ablation.bases.git import IGNORED, encode_image, image_stream, supervised_losses

CLS, SEP, PROMPT = 1, 2, (1, 3, 4)
TEXTS = ([10, 11, 12], [20], [30, 31, 32, 33, 34])
"""Reports of three examples; all begin with the prompt `[CLS] 3 4`."""
WIDTH = 11
DEFECTS = ("prompt_as_input", "padding_supervised", "labels_shifted_twice")
EVERY = [
    {name: True for place, name in enumerate(DEFECTS) if number >> place & 1} for number in range(8)
]
"""All eight combinations of what is done to a batch."""
VOCABULARY = 40


class Texts:
    """Examples as captioning has them, less the images."""

    tokens = tuple([*PROMPT, *text, SEP] for text in TEXTS)
    ids = ("a", "b", "c")
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def weight(self, indices: np.ndarray) -> int:
        return int(self.lengths[indices].sum()) - len(PROMPT) * len(indices)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        longest = max(self.lengths[indices])
        rows = [self.tokens[index] for index in indices]
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])
        labels[:, : len(PROMPT)] = IGNORED
        return {"input_ids": ids, "labels": labels, "image": torch.arange(len(rows))}


def protocol(**defects: Any) -> Protocol:
    return Protocol({"as_published": defects}, {"max_tokens": WIDTH})


def made(indices: list[int], **defects: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Inputs and labels of a batch."""
    batch = protocol(**defects).train(Texts()).batch(np.array(indices))
    return batch["input_ids"].tolist(), batch["labels"].tolist()


def targets(indices: list[int], **defects: Any) -> list[list[int]]:
    """What each position is to predict: labels are shifted once by the loss."""
    return [row[1:] for row in made(indices, **defects)[1]]


X = IGNORED


def test_without_defects_the_examples_are_those_of_the_task() -> None:
    texts = Texts()
    none = Protocol({"as_published": None}, {"max_tokens": WIDTH})
    assert none.train(texts) is none.val(texts) is none.test(texts) is texts
    batches = [np.array([0]), np.array([1, 2])]
    assert none.epoch(batches) == batches


def test_the_prompt_stands_in_for_the_text_as_input() -> None:
    inputs, labels = made([0, 1], prompt_as_input=True)
    assert inputs == [[*PROMPT, SEP, 0, 0, 0, 0, 0]] * 2
    assert labels == [[CLS, 10, 11, 12, SEP, *[X] * 4], [CLS, 20, SEP, *[X] * 6]]


def test_padding_up_to_the_longest_text_allowed_is_supervised() -> None:
    inputs, labels = made([1], padding_supervised=True)
    assert inputs == [[*PROMPT, 20, SEP, *[0] * 6]]
    assert labels == [[X, X, X, 20, SEP, *[0] * 6]]
    # Of 11 places the three of the prompt are no targets.
    assert protocol(padding_supervised=True).train(Texts()).weight(np.array([1, 2])) == 16


def test_after_token_t_comes_token_t_plus_2() -> None:
    """Text 10 11 12 after the prompt 3 4: at 4 (place 2) the target is 11, not 10."""
    once, twice = targets([0]), targets([0], labels_shifted_twice=True)
    assert once == [[X, X, 10, 11, 12, SEP]]
    assert twice == [[X, 10, 11, 12, SEP, X]]
    inputs, _ = made([0], labels_shifted_twice=True)
    row = list(Texts.tokens[0])
    for place, target in enumerate(twice[0]):
        if target != X:
            assert target == row[place + 2]
    assert inputs[0] == row


def test_shifted_twice_the_first_target_of_a_row_ends_the_row_before() -> None:
    both = {"prompt_as_input": True, "labels_shifted_twice": True}
    assert targets([0, 1], **both) == [[11, 12, SEP, *[X] * 4, 20], [SEP, *[X] * 7]]


def test_all_three_by_hand() -> None:
    """As published: prompt and report each padded, to 9 of 11 places, as the prompt shares two."""
    inputs, labels = made([0, 1], **dict.fromkeys(DEFECTS, True))
    assert inputs == [[*PROMPT, SEP, 0, 0, 0, 0, 0]] * 2
    assert [row[1:] for row in labels] == [
        [11, 12, SEP, 0, 0, 0, 0, 20], [SEP, 0, 0, 0, 0, 0, 0, X],
    ]  # fmt: skip


@pytest.mark.parametrize("defects", EVERY, ids=lambda on: "+".join(on) or "none")
@pytest.mark.parametrize("indices", [[0], [1, 2], [2, 0, 1]])
def test_the_weight_of_a_batch_is_its_number_of_targets(
    defects: dict[str, bool], indices: list[int]
) -> None:
    examples = protocol(**defects).train(Texts())
    labels = examples.batch(np.array(indices))["labels"]
    assert examples.weight(np.array(indices)) == int((labels[:, 1:] != IGNORED).sum())


def tiny_git() -> GitForCausalLM:
    torch.manual_seed(0)
    return GitForCausalLM(
        GitConfig(
            vision_config={
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
            },
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64, initializer_range=0.3,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    ).eval()  # fmt: skip


def reference(model: GitForCausalLM, pixels: Tensor, rows: list[int], on: dict[str, bool]) -> float:
    """The published code's loss: rows padded as its tokenizer call does, logits by transformers."""
    texts = [[*TEXTS[row], SEP] for row in rows]
    if on.get("prompt_as_input"):
        width = WIDTH - len(PROMPT) + 1
        inputs = [[*PROMPT, SEP] for _ in rows]
        labels = [[CLS, *text] for text in texts]
    else:
        width = WIDTH
        inputs = [[*PROMPT, *text] for text in texts]
        labels = [[X] * len(PROMPT) + text for text in texts]
    pad = 0 if on.get("padding_supervised") else X
    ids = torch.tensor([row + [0] * (width - len(row)) for row in inputs])
    lab = torch.tensor([row + [pad] * (width - len(row)) for row in labels])
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=pixels).logits
    image = logits.shape[1] - width
    lg, lab = logits[:, image:-1].reshape(-1, VOCABULARY), lab[:, 1:].reshape(-1)
    if on.get("labels_shifted_twice"):
        lg, lab = lg[:-1], lab[1:]
    return float(functional.cross_entropy(lg, lab, ignore_index=X))


@pytest.mark.parametrize("defects", EVERY, ids=lambda on: "+".join(on) or "none")
def test_loss_is_that_of_transformers_with_the_published_formula(defects: dict[str, bool]) -> None:
    model, rows = tiny_git(), [2, 0, 1]
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    examples = protocol(**defects).train(Texts())
    batch = examples.batch(np.array(rows))
    with torch.no_grad():
        images = list(image_stream(model, encode_image(model, pixels)))
        losses, _ = supervised_losses(model, images, batch["input_ids"], batch["labels"])
    own = losses.sum().item() / examples.weight(np.array(rows))
    assert own == pytest.approx(reference(model, pixels, rows, defects), abs=1e-5)


def test_training_breaks_off_after_the_first_batch_of_an_epoch() -> None:
    batches = [np.array([0, 1]), np.array([2])]
    assert protocol(batches_an_epoch=1).epoch(batches) == batches[:1]


def test_choosing_and_claiming_see_the_first_examples_alone() -> None:
    few = protocol(val_examples=2, test_examples=1)
    assert few.val(Texts()).ids == ("a", "b") and len(few.val(Texts())) == 2
    assert few.val(Texts()).lengths.tolist() == [7, 5]
    assert few.test(Texts()).ids == ("a",)
    assert few.train(Texts()).ids == ("a", "b", "c")


def test_training_is_told_only_of_the_defects_that_it_has() -> None:
    claims = {"test_examples": 64, "memory_after_loading": True, "time_with_waiting": True}
    told = AsPublished.model_validate(claims).model_dump()
    arm = {"method": "full", "as_published": told}
    assert of_training(arm) == {"method": "full"}
    assert of_training({"method": "full", "as_published": None}) == {"method": "full"}
    told["batches_an_epoch"] = 1
    assert of_training(arm)["as_published"] == {"batches_an_epoch": 1}


def test_every_defect_switched_on_has_one_sentence_of_warning() -> None:
    told = AsPublished(labels_shifted_twice=True, batches_an_epoch=3).told
    assert list(told) == ["labels_shifted_twice", "batches_an_epoch"]
    assert "token t + 2" in told["labels_shifted_twice"]
    assert all(
        field.description and field.description.count(". ") == 0
        for field in AsPublished.model_fields.values()
    )
