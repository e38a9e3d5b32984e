"""A causal language model of transformers: its loss, and the texts that it writes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from peft_ablation.bases.causal import causal_of, token_losses, write
from peft_ablation.bases.cpu_kernels import lighten, pack
from peft_ablation.data.examples import Indices
from peft_ablation.errors import InputError
from peft_ablation.tasks import Answer
from peft_ablation.tasks.text_generation.chat import Chat
from peft_ablation.tasks.text_generation.conversations import Conversations
from peft_ablation.tasks.text_generation.examples import (
    WrittenExamples,
    context_of,
    load_tokenizer,
    prompts_of,
)

Written = WrittenExamples | Conversations


def load_model(folder: str | Path) -> Any:
    """Return the causal language model of a local folder, in float32, on the CPU."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    lighten(model)
    return model


class SummedLoss(nn.Module):
    """Sum of the token losses of a batch; the module that data-parallel training wraps."""

    def __init__(self, model: nn.Module, label_smoothing: float) -> None:
        """Wrap a (PEFT) model; `label_smoothing` is of training alone."""
        super().__init__()
        lighten(model)
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the summed loss, in nats, of a batch of examples."""
        smoothing = self.label_smoothing if self.training else 0.0
        return token_losses(self.model, batch, label_smoothing=smoothing).sum()


class Writer:
    """Writes a text after each prompt and tells how likely the references are.

    Of a conversation the last turn of the assistant is written; how likely is told of all turns.
    """

    def __init__(
        self, model: Any, base: str | Path, device: torch.device, settings: Mapping[str, Any]
    ) -> None:
        """Take a trained model and the task's settings."""
        self.model, self.settings, self.device = model.to(device).eval(), settings, device
        pack(self.model)
        self.base = base
        template = settings.get("chat_template")
        if template:
            chat = Chat(base, template)
            self.tokenizer, self.end_token = chat.tokenizer, chat.end_token
            self.prompt: Callable[[str], list[int]] = chat.prompt
        else:
            self.tokenizer = tokenizer = load_tokenizer(base)
            self.end_token = tokenizer.eos_token_id
            self.prompt = lambda text: prompts_of([text], tokenizer, settings)[0]
        # What a base's own generation_config says would mix with the study's settings.
        causal_of(self.model).generation_config = _plain()

    def truth(self, examples: Written) -> Mapping[str, Any]:
        """Return the references and their supervised tokens."""
        return {
            "reference": pl.Series(examples.references, dtype=pl.List(pl.String)),
            "tokens": pl.Series(examples.weights, dtype=pl.Int32),
        }

    def __call__(self, examples: Written, indices: Indices) -> Mapping[str, Sequence[Any]]:
        """Return `hypothesis`, and `nll`: that of all references, in nats (float64)."""
        batch = {k: v.to(self.device) for k, v in examples.batch(indices).items()}
        losses = token_losses(self.model, batch).double()
        ends = examples.weights[indices].cumsum()[:-1]
        nll = [float(part.sum()) for part in losses.cpu().tensor_split(torch.from_numpy(ends))]
        # Seeded by the batch's first example, so that batches draw different noise.
        written = self._written([examples.prompts[index] for index in indices], int(indices[0]))
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return {"hypothesis": [text.strip() for text in texts], "nll": nll}

    def answer(self, question: str) -> Answer:
        """Return what is written with a question as the prompt, or as the user's only message.

        Raises `InputError` where the prompt and the longest answer are longer than the context.
        """
        prompt = self.prompt(question)
        limit, context = self.settings["max_new_tokens"], context_of(self.base)
        if context is not None and len(prompt) + limit > context:
            raise InputError(
                f"questions: one of {len(prompt)} tokens and task.max_new_tokens {limit}, but base "
                f"{self.base} has a context of {context}; ask shorter or set max_new_tokens lower"
            )
        (written,) = self._written([prompt], 0)
        text = self.tokenizer.decode(written, skip_special_tokens=True).strip()
        return Answer(text, len(written), len(written) < limit)

    def _written(self, prompts: Sequence[Sequence[int]], place: int) -> list[list[int]]:
        """Return what is written after each prompt; `place` seeds what is drawn."""
        options: dict[str, Any] = {
            key: self.settings[key]
            for key in ("max_new_tokens", "num_beams", "no_repeat_ngram_size")
        }
        if self.settings["num_beams"] > 1:
            options["length_penalty"] = self.settings["length_penalty"]
        if self.settings["sample"]:
            options |= {key: self.settings[key] for key in ("temperature", "top_p")}
        with torch.random.fork_rng():
            torch.manual_seed(self.settings["sampling_seed"] + place)
            return write(
                self.model, prompts, self.end_token,
                {**options, "do_sample": self.settings["sample"]},
            )  # fmt: skip


def _plain() -> Any:
    from transformers import GenerationConfig

    return GenerationConfig()
