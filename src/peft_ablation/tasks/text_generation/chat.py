"""Conversations as tokens: rendered by a chat template, the assistant's turns told apart.

A template may be anyone's, so the text of a turn is what the template adds by it: what it writes of
all messages up to the turn, less what it writes to prompt for it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peft_ablation.errors import InputError
from peft_ablation.tasks.text_generation.chat_templates import OWN, template_text
from peft_ablation.tasks.text_generation.messages import ASSISTANT, Message

DATE: Final = "26 Jul 2024"
"""What templates that write today's date (Llama 3.1) are told it is: texts must not change by the
day. It is the date that these have themselves where none is to be had."""
_TOKEN: Final = re.compile(r"<\|[^|<>]+\|>")


@dataclass(frozen=True)
class Turn:
    """A turn of the assistant, and what stands between it and the one before, as token ids."""

    before: list[int]
    """What is read and not supervised: the other roles' messages, and how this turn begins."""
    told: list[int]
    """What is supervised: the text and the end-of-turn token."""


class Chat:
    """A tokenizer with a chat template."""

    def __init__(self, base: str | Path, template: str) -> None:
        """Load the tokenizer of a local base; `template` is a name, or the text of one.

        Raises `InputError` for a tokenizer that has no template of its own (if that is asked for),
        lacks the template's tokens, or does not know which characters a token is made of, and for a
        template that ends no turn by a token of its own.
        """
        from transformers import AutoTokenizer

        self.base = base
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            base, local_files_only=True, trust_remote_code=False
        )
        text = template_text(template)
        if text is None and not isinstance(self.tokenizer.chat_template, str):
            raise InputError(
                f"task.chat_template: is {OWN}, but the tokenizer of base {base} has no template; "
                "name one (see config/README.md)"
            )
        self.template: str = self.tokenizer.chat_template if text is None else text
        if not self.tokenizer.is_fast:
            raise InputError(
                f"base {base}: its tokenizer does not tell which characters a token is made of, "
                "expected a fast one (tokenizer.json)"
            )
        if "eos_token" in self.template and self.tokenizer.eos_token is None:
            raise InputError(
                f"base {base}: its tokenizer has no end token (eos_token), which the chat template "
                "writes; set one in tokenizer_config.json, or give another task.chat_template"
            )
        if text is not None:
            self._check_tokens(template)
        self.end_token = self._end_token()

    def _check_tokens(self, name: str) -> None:
        known = self.tokenizer.get_vocab()
        lacking = [t for t in dict.fromkeys(_TOKEN.findall(self.template)) if t not in known]
        if lacking:
            raise InputError(
                f"task.chat_template: {name if '{' not in name else 'the template'} writes "
                f"{', '.join(lacking)}, which the tokenizer of base {self.base} lacks; take a base "
                "that has them, the template plain, or name them in base.random.tokenizer.marks"
            )

    def _end_token(self) -> int:
        """Return the token by which the template ends a turn of the assistant."""
        probe = [{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}]
        text, ((_, end),) = self._rendered(probe, "task.chat_template")
        last: int = self.tokenizer(text[:end], add_special_tokens=False)["input_ids"][-1]
        own = {*self.tokenizer.get_added_vocab().values(), self.tokenizer.eos_token_id}
        if last not in own:
            raise InputError(
                f"task.chat_template: with the tokenizer of base {self.base} it ends a turn of the "
                "assistant by no token of its own: a model could not learn to stop; end turns by "
                "one, such as eos_token"
            )
        return last

    def turns(self, conversations: Sequence[Sequence[Message]], where: str) -> list[list[Turn]]:
        """Return the assistant's turns of each conversation, which ends with one.

        Their tokens in order, `before` and `told` in turn, are those of the whole text up to the
        end of the last turn. Raises `InputError` with the row where the template refuses messages,
        writes earlier turns otherwise once others follow, or ends a turn otherwise than the rest.
        """
        found = [
            self._rendered(conversation, f"{where}: row {place}")
            for place, conversation in enumerate(conversations, 1)
        ]
        texts = [text for text, _ in found]
        tokens = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        rows = zip(tokens["input_ids"], tokens["offset_mapping"], found, strict=True)
        several = [divided(ids, places, spans) for ids, places, (_, spans) in rows]
        for row, turns in enumerate(several, 1):
            if not all(turn.before and turn.told[-1:] == [self.end_token] for turn in turns):
                raise InputError(
                    f"{where}: row {row}: the chat template ends a turn of the assistant otherwise "
                    "than elsewhere; give one that ends all of them by the same token"
                )
        return several

    def prompt(self, question: str) -> list[int]:
        """Return what a model reads before it answers a user's only message, as token ids."""
        messages: list[Message] = [{"role": "user", "content": question}]
        text = self._text(messages, "questions", prompting=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _rendered(
        self, messages: Sequence[Message], where: str
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of messages, and begin and end of each turn of the assistant in it."""
        whole = self._text(messages, where)
        spans = []
        for place, message in enumerate(messages):
            if message["role"] == ASSISTANT:
                before = self._text(messages[:place], where, prompting=True)
                ends = place == len(messages) - 1
                until = whole if ends else self._text(messages[: place + 1], where)
                # Line ends after the end-of-turn token belong to what follows.
                until = until.rstrip()
                if not (whole.startswith(until) and until.startswith(before)):
                    raise InputError(
                        f"{where}: the chat template writes earlier turns otherwise once later "
                        "ones follow, so that it cannot be told which tokens are the assistant's; "
                        "give another template"
                    )
                spans.append((len(before), len(until)))
        return whole, spans

    def _text(self, messages: Sequence[Message], where: str, *, prompting: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=prompting,
                date_string=DATE,
            )
        except TemplateError as error:
            said = " ".join(str(error).split())
            raise InputError(f"{where}: the chat template refuses the messages ({said})") from None
        return text


def divided(
    ids: Sequence[int], places: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> list[Turn]:
    """Return the turns of a tokenised text; `places` and `spans` are begin and end in it.

    `places` are of each token, `spans` of each turn of the assistant, in characters.
    """
    turns, done, token = [], 0, 0
    for begin, end in spans:
        # A token across the border is the assistant's: the model has to write it.
        while token < len(ids) and places[token][1] <= begin:
            token += 1
        first = token
        while token < len(ids) and places[token][0] < end:
            token += 1
        turns.append(Turn(list(ids[done:first]), list(ids[first:token])))
        done = token
    return turns
