"""Tiny text classifiers of every kind, and tables of texts."""

from pathlib import Path
from typing import Any

import polars as pl
import torch

from peft_ablation.artifacts import write_table
from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.tasks.text_classification import Settings, TextClassification

TEXTS = ["a cat sat", "the dog ran far away", "two birds flew over the old house", "no"]

_BERT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 34, "vocab_size": 300, "pad_token_id": 1,
}  # fmt: skip
_LLAMA: dict[str, Any] = {
    **{key: value for key, value in _BERT.items() if key != "pad_token_id"},
    "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 3,
}  # fmt: skip
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertForPreTraining", {**_BERT, "embedding_size": 8}),
    "bert": ("BertForPreTraining", _BERT),
    "camembert": ("CamembertForMaskedLM", _BERT),
    "deberta": ("DebertaForMaskedLM", _BERT),
    "deberta-v2": ("DebertaV2ForMaskedLM", _BERT),
    "distilbert": (
        "DistilBertForMaskedLM",
        {
            "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 300,
            "max_position_embeddings": 34, "pad_token_id": 1,
        },
    ),
    "electra": ("ElectraForPreTraining", {**_BERT, "embedding_size": 8}),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 34, "vocab_size": 300,
            "bos_token_id": 3, "eos_token_id": 3,
        },
    ),
    "llama": ("LlamaForCausalLM", _LLAMA),
    "mistral": ("MistralForCausalLM", _LLAMA),
    "mpnet": ("MPNetForMaskedLM", _BERT),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "roberta": ("RobertaForMaskedLM", {**_BERT, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", {**_BERT, "type_vocab_size": 1}),
}  # fmt: skip
"""A base of each kind as it is published: trained to fill or continue texts, without the head."""


def make_text_base(folder: Path, kind: str) -> Path:
    """Write a base of random weights with a tokenizer."""
    import transformers

    name, settings = CONFIGS[kind]
    model_class = getattr(transformers, name)
    torch.manual_seed(5)
    model_class(model_class.config_class(**settings)).save_pretrained(folder)
    train_tokenizer(TEXTS, 300, folder)
    return folder


def task_of(train: pl.DataFrame, **settings: Any) -> TextClassification:
    chosen = Settings(name="text_classification", **settings).model_dump(mode="json")
    return TextClassification(chosen, train)


def table_of(rows: dict[str, list[Any]]) -> pl.DataFrame:
    count = len(next(iter(rows.values())))
    ids = [f"r{n}" for n in range(count)]
    return pl.DataFrame({"example_id": ids, "group": ids, **rows})


def written(folder: Path, table: pl.DataFrame, name: str = "test") -> Path:
    write_table(table, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"
