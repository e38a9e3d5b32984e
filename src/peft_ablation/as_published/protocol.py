"""What the defects of one arm do to examples and batches.

The engine passes its examples through one `Protocol`; without defects it gives back what it was
given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from peft_ablation.as_published import AsPublished
from peft_ablation.data.examples import Indices
from peft_ablation.errors import InputError

IGNORED: Final = -100
"""Label of a position that is not supervised, as in torch and transformers."""
PADDING: Final = 0
"""Id of padding."""


class Protocol:
    """What the defects of one arm do to the engine's examples and batches."""

    def __init__(self, arm: Mapping[str, Any], task: Mapping[str, Any]) -> None:
        """Take an arm's settings and those of the task (`max_tokens`) as plain values."""
        self.defects = AsPublished.model_validate(arm.get("as_published") or {})
        self.most = task.get("max_tokens")

    def train(self, examples: Any) -> Any:
        """Return the training examples as the protocol makes batches of them."""
        return self._changed(examples, None)

    def val(self, examples: Any) -> Any:
        """Return the validation examples by which it chooses the best epoch."""
        return self._changed(examples, self.defects.val_examples)

    def test(self, examples: Any) -> Any:
        """Return the test examples from which it claims a loss."""
        return self._changed(examples, self.defects.test_examples)

    def epoch(self, batches: list[Indices]) -> list[Indices]:
        """Return those batches of an epoch that it trains on."""
        return batches[: self.defects.batches_an_epoch]

    def _changed(self, examples: Any, first: int | None) -> Any:
        if first is None and not self.defects.of_texts:
            return examples
        return PublishedExamples(examples, self.defects, self.most, first)


@dataclass(frozen=True)
class PublishedExamples:
    """Examples of texts with a prompt, `[CLS] prompt text [SEP]`, as a published protocol has them.

    A row of a batch is padded on the right. The number of targets of a batch is `weight`.
    """

    examples: Any
    """Those of the task: `tasks.Examples`."""
    defects: AsPublished
    most: int | None
    """Tokens that a text is padded to."""
    first: int | None = None
    """How many examples there are; None: all."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    @property
    def ids(self) -> Sequence[str]:
        """`example_id` of each example."""
        ids: Sequence[str] = self.examples.ids[: self.first]
        return ids

    @property
    def lengths(self) -> Indices:
        """Tokens of each example, prompt and marks among them."""
        lengths: Indices = self.examples.lengths[: self.first]
        return lengths

    @property
    def _prompt(self) -> int:
        """Tokens of `[CLS] prompt`, which all texts begin with."""
        first = np.zeros(1, dtype=np.int64)
        return int(self.examples.lengths[0] - self.examples.weight(first))

    @property
    def _width(self) -> int:
        """Tokens of a padded row of labels: all of a text, or `[CLS] text [SEP]` alone."""
        if self.most is None:
            raise ValueError("the task has no max_tokens to pad to")
        if not self.defects.prompt_as_input:
            return self.most
        return max(self.most - self._prompt, self._prompt) + 1

    def weight(self, indices: Indices) -> int:
        """Return how many targets the batch of these examples has.

        Shifted twice, the last place of a row is given the first target of the row after it, as
        the flattened labels of transformers have it; the last row has none.
        """
        before = 1 if self.defects.prompt_as_input else self._prompt
        if self.defects.padding_supervised:
            targets = len(indices) * (self._width - before)
        else:
            targets = self.examples.weight(indices)
        lost = self.defects.labels_shifted_twice and before == 1 and len(indices) > 0
        return targets - int(lost)

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return the batch with other `input_ids` and `labels` (B, T), both int64."""
        batch: dict[str, Tensor] = self.examples.batch(indices)
        if not self.defects.of_texts:
            return batch
        if "labels" not in batch:
            raise InputError(
                "as_published: these texts have no labels of tokens, one a token (several texts an "
                "example, or another model than the published one); leave its defects of texts out"
            )
        ids, labels = batch["input_ids"], batch["labels"]
        lengths = torch.from_numpy(self.examples.lengths[indices])
        if self.defects.prompt_as_input:
            ids, labels = _apart(ids, labels, lengths, self._prompt)
            lengths = lengths - self._prompt + 1
        if self.defects.prompt_as_input or self.defects.padding_supervised:
            ids, labels = _padded(ids, self._width), _padded(labels, self._width, IGNORED)
        if self.defects.padding_supervised:
            after = torch.arange(labels.shape[1])[None] >= lengths[:, None]
            labels = labels.masked_fill(after, PADDING)
        if self.defects.labels_shifted_twice:
            labels = _shifted(labels)
        return {**batch, "input_ids": ids, "labels": labels}


def _apart(ids: Tensor, labels: Tensor, lengths: Tensor, prompt: int) -> tuple[Tensor, Tensor]:
    """Return `[CLS] prompt [SEP]` as inputs and `[CLS] text [SEP]` as labels."""
    texts = torch.cat((ids[:, :1], labels[:, prompt:]), dim=1)
    end = ids.gather(1, lengths[:, None] - 1)
    inputs = torch.cat((ids[:, :prompt], end), dim=1)
    return inputs, texts


def _padded(rows: Tensor, width: int, value: int = PADDING) -> Tensor:
    """Return rows (B, T) padded on the right to `width`."""
    return pad(rows, (0, width - rows.shape[1]), value=value)


def _shifted(labels: Tensor) -> Tensor:
    """Return labels (B, T) one place to the left, all but the first, over the ends of rows.

    Transformers drops the first column, flattens the rest, and shifts it again.
    """
    following = labels[:, 1:].flatten()
    moved = torch.cat((following[1:], following.new_full((1,), IGNORED)))
    return torch.cat((labels[:, :1], moved.view_as(labels[:, 1:])), dim=1)
