"""A text classifier of transformers: its head, loss and predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peft_ablation.bases.classifier import load_classifier
from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.first_token import read_first_token
from peft_ablation.data.examples import Indices
from peft_ablation.errors import InputError
from peft_ablation.tasks.text_classification import HEADS
from peft_ablation.tasks.text_classification.examples import TextExamples, pad_id


def load_model(folder: str | Path, classes: Sequence[str]) -> Any:
    """Return the classifier of a local folder, in float32, on the CPU.

    Without `classes` it has one output, a score. Heads of other classes are made anew; see
    `load_classifier`. Raises `InputError` for a base of another kind.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in HEADS:
        raise InputError(
            f"base {folder}: model_type is {config.model_type!r}, expected {', '.join(HEADS)}"
        )
    # Said outright: transformers would guess it from the number of outputs and the labels' type.
    config.problem_type = "single_label_classification" if classes else "regression"
    config.pad_token_id = pad_id(config)
    labels = classes or ("score",)
    model = load_classifier(
        AutoModelForSequenceClassification, config, folder, HEADS[config.model_type], labels
    )
    read_first_token(model)
    return model


class SummedLoss(nn.Module):
    """Sum of the losses of a batch; the module that data-parallel training wraps."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a (PEFT) classifier."""
        super().__init__()
        self.model = model

    def forward(self, label: Tensor, **texts: Tensor) -> Tensor:
        """Return the summed loss of a batch of `TextExamples`.

        `label` (B,): int64, and the loss is the cross entropy in nats; or float32, and it is the
        squared error.
        """
        logits = self.model(**texts).logits.float()
        if label.is_floating_point():
            return functional.mse_loss(logits.squeeze(-1), label, reduction="sum")
        return functional.cross_entropy(logits, label, reduction="sum")


class TextPredictor:
    """Tells the class of texts, how sure it is and how likely it found the true one, or a score."""

    def __init__(self, model: Any, device: torch.device, classes: Sequence[str]) -> None:
        """Take a trained model whose outputs are in the order of `classes`; none: a score."""
        self.model, self.device = model.to(device).eval(), device
        self.classes = list(classes)
        pack(self.model)

    def truth(self, examples: TextExamples) -> Mapping[str, Sequence[Any]]:
        """Return the true classes by name, or the true scores."""
        if self.classes:
            return {"label": [self.classes[place] for place in examples.targets]}
        return {"score": examples.targets.tolist()}

    def __call__(self, examples: TextExamples, indices: Indices) -> Mapping[str, Sequence[Any]]:
        """Return `predicted`; of classes also its `probability`, and `nll` of the true class."""
        batch = {k: v.to(self.device) for k, v in examples.batch(indices).items()}
        label = batch.pop("label")
        logits = self.model(**batch).logits.double()
        if not self.classes:
            return {"predicted": logits.squeeze(-1).tolist()}
        probability, place = logits.softmax(-1).max(-1)
        nll = functional.cross_entropy(logits, label, reduction="none")
        return {
            "predicted": [self.classes[index] for index in place.tolist()],
            "probability": probability.tolist(),
            "nll": nll.tolist(),
        }
