"""A classifier of transformers, of images or of texts, with heads of the task's own size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_ablation.bases.cpu_kernels import lighten
from peft_ablation.errors import InputError


def load_classifier(
    auto: Any, config: Any, folder: str | Path, heads: Sequence[str], labels: Sequence[str] | None
) -> Any:
    """Return the classifier of a local folder, in float32, on the CPU.

    `auto` is transformers' class of that kind, `config` the folder's configuration, `heads` are
    the modules that a base without a head lacks. Heads whose label names are `labels` are kept,
    their outputs put into that order; any other are made anew as transformers does, from torch's
    global generator. Without `labels` heads are what they are. Raises `InputError` where the folder
    lacks weights of anything but the heads.
    """
    saved = [config.id2label[place] for place in range(config.num_labels)]
    wanted = list(labels or saved)
    kept = sorted(saved) == sorted(wanted)
    if not kept:
        _name_labels(config, wanted)
    with quiet():
        model, found = auto.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True,
            use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    made = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    begins = tuple(f"{head}." for head in heads)
    of_heads = {name for name, _ in model.named_parameters() if name.startswith(begins)}
    odd = sorted(made - of_heads)
    if odd:
        raise InputError(
            f"base {folder}: {len(odd)} weights are missing or of another shape than config.json "
            f"says, first {odd[0]!r}; fetch the base again"
        )
    if not kept and made != of_heads:
        # What fits by chance, or has no classes' shape, is of another task all the same.
        fresh = auto.from_config(config)
        for head in heads:
            model.set_submodule(head, fresh.get_submodule(head))
    if kept and saved != wanted:
        _reorder(model.get_submodule(heads[-1]), [saved.index(name) for name in wanted])
        _name_labels(model.config, wanted)
    lighten(model)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Silence bars and the report of a new head: each job says in its log what it does."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _name_labels(config: Any, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: place for place, name in enumerate(labels)}


def _reorder(head: nn.Module, order: Sequence[int]) -> None:
    """Put the outputs of a head into another order."""
    last = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.copy_(parameter[list(order)].clone())
