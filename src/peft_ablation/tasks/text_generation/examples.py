"""Prompts and references of a split as token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from peft_ablation.artifacts import read_json
from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.errors import InputError
from peft_ablation.metrics.texts import references_of
from peft_ablation.tasks._references import reference_rows

LENGTHS = ("n_positions", "max_position_embeddings")
"""Keys of a config that say how many positions a model has."""


@dataclass(frozen=True)
class WrittenExamples:
    """Tokenised prompts of one split, each with the texts that may follow it."""

    ids: list[str]
    """`example_id` of each example."""
    prompts: list[list[int]]
    answers: list[list[list[int]]]
    """References of each example, the end token last."""
    references: list[list[str]]
    """The texts of these."""
    limit: int | None = None
    """Most tokens of a prompt with an answer; None: any number."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    @property
    def lengths(self) -> Indices:
        """Tokens that are read of each example: its prompt once, and its answers less their end."""
        read = [
            len(prompt) + sum(map(len, several)) - len(several)
            for prompt, several in zip(self.prompts, self.answers, strict=True)
        ]
        return np.array(read, dtype=np.int64)

    @property
    def weights(self) -> Indices:
        """Supervised tokens of each example."""
        return np.array([sum(map(len, several)) for several in self.answers], dtype=np.int64)

    def weight(self, indices: Indices) -> int:
        """Return how many tokens of these examples are supervised."""
        return int(self.weights[indices].sum())

    def shuffled(self, seed: int) -> "WrittenExamples":
        """Return the same references beside one another's prompts.

        Where a prompt and an answer come to more than `limit` tokens together, the beginning of the
        prompt is left out.
        """
        order = shuffled_positions(np.arange(len(self)), seed)
        prompts = [self.prompts[place] for place in order]
        if self.limit is not None:
            rooms = [self.limit - max(map(len, several)) for several in self.answers]
            prompts = [prompt[-room:] for prompt, room in zip(prompts, rooms, strict=True)]
        return replace(self, prompts=prompts)

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return what `token_losses` takes, int64, padded on the right."""
        prompts = [self.prompts[index] for index in indices]
        return reference_rows(prompts, [self.answers[index] for index in indices])


def load_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer of a local base or model folder.

    Raises `InputError` where it has no end token: a model could not learn to stop.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"base {folder}: its tokenizer has no end token (eos_token), after which a text is "
            "done; set one in tokenizer_config.json"
        )
    return tokenizer


def examples(table: str | Path, base: str | Path, settings: Mapping[str, Any]) -> WrittenExamples:
    """Tokenise columns `prompt` (text) and `reference` (a text, or a list of them) of a split.

    `settings` are those of the task. Raises `InputError` for a row without reference or with an
    empty one, texts of more than `max_tokens` where `too_long` is `fail`, prompts that leave no
    room, and a context that is shorter than `max_tokens` and the written text.
    """
    rows = read_columns(table, ("example_id", "prompt", "reference"))
    tokenizer = load_tokenizer(base)
    end = tokenizer.eos_token_id
    references = references_of(rows)
    for place, several in enumerate(references, 1):
        if not several or not all(text and text.strip() for text in several):
            raise InputError(
                f"{table}: row {place}: found {'an empty' if several else 'no'} reference, "
                "expected a text; mend the row or leave it out"
            )
    read = prompts_of(rows["prompt"].to_list(), tokenizer, settings)
    if not all(read):
        raise InputError(
            f"{table}: row {read.index([]) + 1}: its prompt has no token; give task.prompt some "
            "text around {prompt}"
        )
    flat = [settings["answer"].format(reference=text) for several in references for text in several]
    tokens = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    answers = [[[*next(tokens), end] for _ in several] for several in references]
    return WrittenExamples(
        rows["example_id"].to_list(),
        read,
        _fitted(read, answers, table, base, settings),
        references,
        settings["max_tokens"],
    )


def prompts_of(
    texts: Sequence[str], tokenizer: Any, settings: Mapping[str, Any]
) -> list[list[int]]:
    """Return what a model reads of each text before it writes, as token ids."""
    # A beginning that the tokenizer sets (Llama's <s>) belongs to the prompt; an end does not.
    prompts = tokenizer([settings["prompt"].format(prompt=text) for text in texts])["input_ids"]
    end = tokenizer.eos_token_id
    return [ids[:-1] if ids and ids[-1] == end else ids for ids in prompts]


def context_of(base: str | Path) -> int | None:
    """Return how many positions the model of a base folder has; None where it does not say."""
    config = read_json(Path(base, "config.json"))
    return next((config[key] for key in LENGTHS if config.get(key)), None)


def _fitted(
    prompts: Sequence[Sequence[int]],
    answers: list[list[list[int]]],
    table: str | Path,
    base: str | Path,
    settings: Mapping[str, Any],
) -> list[list[list[int]]]:
    limit = settings["max_tokens"]
    longest = max(map(len, prompts))
    check_context(longest, table, base, settings)
    if longest >= limit:
        count = sum(len(prompt) >= limit for prompt in prompts)
        raise InputError(
            f"task.max_tokens: is {limit}, but {count} of {len(prompts)} prompts in {table} leave "
            f"no room for an answer (the longest has {longest} tokens); set it higher"
        )
    if settings["too_long"] == "fail":
        sizes = [
            len(prompt) + max(map(len, several))
            for prompt, several in zip(prompts, answers, strict=True)
        ]
        check_length(sizes, table, limit)
    return [
        [answer[: limit - len(prompt)] for answer in several]
        for prompt, several in zip(prompts, answers, strict=True)
    ]


def check_context(
    longest: int, table: str | Path, base: str | Path, settings: Mapping[str, Any]
) -> None:
    """Raise `InputError` where a base's context is too short for texts, or prompts and answers.

    `longest` is the number of tokens of the longest prompt.
    """
    limit, new = settings["max_tokens"], settings["max_new_tokens"]
    context = context_of(base)
    if context is not None and max(limit, longest + new) > context:
        raise InputError(
            f"task: texts of {max(limit, longest + new)} tokens (max_tokens {limit}; the longest "
            f"prompt of {table}, {longest}, and max_new_tokens {new}), but base {base} has a "
            f"context of {context}; set task.max_tokens or task.max_new_tokens lower, or leave "
            "long prompts out"
        )


def check_length(sizes: Sequence[int], table: str | Path, limit: int) -> None:
    """Raise `InputError` where texts of so many tokens would have to be cut."""
    cut = sum(size > limit for size in sizes)
    if cut:
        raise InputError(
            f"task.max_tokens: is {limit}, but {cut} of {len(sizes)} texts in {table} are longer "
            f"(the longest has {max(sizes)} tokens) and would be cut; set task.max_tokens to "
            f"{max(sizes)}, or task.too_long to cut"
        )
