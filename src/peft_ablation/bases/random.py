"""A base that has learnt nothing: an architecture and sizes from the study, weights from a seed.

It is what training from scratch starts from (a small convolutional network beside a pretrained
one), and it stands in for any base where a study is tried on two CPU cores. Module level is free
of torch: settings are checked when the DAG is built.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from peft_ablation.artifacts import sha256_file, sha256_json, whole_folder, write_json
from peft_ablation.bases.architectures import (
    ConfigKeys,
    architecture,
    config_keys,
    made_classes,
    nested,
)
from peft_ablation.bases.fetch import TOKENIZERS
from peft_ablation.bases.tokenizer import SMALLEST, train_tokenizer
from peft_ablation.config.section import Section, Seed
from peft_ablation.errors import InputError, near_miss

RANDOM_VERSION: Final = 1
"""Raise when the same settings make another base."""

ANY_IMAGE_SIZE: Final = 224
"""Side of images for an architecture that takes any and a study that says none, in pixels."""

_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
_DIVISORS: Final = {
    "hidden_size": "num_attention_heads",
    "n_embd": "n_head",
    "image_size": "patch_size",
}
"""Sizes that must be a multiple of another."""

Positive = Annotated[float, Field(gt=0)]


class TrainedTokenizer(Section):
    """A byte-level BPE tokenizer trained on the texts of the study's training split."""

    vocabulary: int = Field(2000, ge=SMALLEST)
    """Most tokens; 261 are the bytes and five marks alone, the same whatever the texts."""
    columns: tuple[str, ...] = Field(("text", "text_pair"), min_length=1)
    """Columns of the examples table with texts; those that it lacks are passed over."""
    marks: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Further special tokens, such as those of a chat template."""

    @model_serializer(mode="wrap")
    def _without_marks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not among the values where there are none: such a base keeps its name.
        values: dict[str, Any] = handler(self)
        if not self.marks:
            del values["marks"]
        return values

    @property
    def of_bytes(self) -> bool:
        """Whether no token has room for several bytes, so that all texts make the same."""
        return self.vocabulary <= SMALLEST + len(self.marks)


class RandomBase(Section):
    """A base with random weights."""

    architecture: str
    """Class of transformers, such as `ViTForImageClassification`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Keys of its transformers config, such as `hidden_size`; others have the class's defaults."""
    seed: Seed = 0
    """Seed of the weights."""
    tokenizer: str | TrainedTokenizer | None = None
    """Folder of a tokenizer to go with it, or how one is trained on the study's training texts;
    vocabulary and special tokens of the config are then the tokenizer's."""
    image_size: int | None = Field(None, ge=1)
    """Side of its images in pixels, where `config` has no key for it (ResNet; default 224)."""
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of each colour on the scale 0 to 1, taken off before the model sees it."""
    image_std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)
    """Standard deviation of each colour, divided by."""

    @field_validator("architecture")
    @classmethod
    def _class_is_known(cls, name: str) -> str:
        known = made_classes()
        if name not in known:
            raise ValueError(f"found {name!r}, allowed: {', '.join(known)}{near_miss(name, known)}")
        return name

    @field_validator("config")
    @classmethod
    def _config_is_of_the_class(cls, config: dict[str, Any], info: ValidationInfo) -> Any:
        if "architecture" not in info.data:
            return config
        try:
            return nested(_checked(info.data["architecture"], config))
        except InputError as error:
            raise ValueError(str(error)) from None

    @field_validator("image_size")
    @classmethod
    def _size_is_said_once(cls, size: int | None, info: ValidationInfo) -> int | None:
        if size and info.data.keys() >= {"architecture", "config"}:
            name, config = info.data["architecture"], info.data["config"]
            if config_keys(name).vision is None:
                raise ValueError(f"found {size}, but {name} takes no images")
            made = architecture(name, config)
            if made and made.image_size:
                raise ValueError(
                    f"found {size}, but config says {made.image_size}; set image_size there"
                )
        return size

    @property
    def of_texts(self) -> bool:
        """Whether its tokenizer, and so the base, depends on the study's training texts."""
        trained = self.tokenizer
        return isinstance(trained, TrainedTokenizer) and not trained.of_bytes


def _checked(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key.

    Raises `InputError` for a key that the class lacks, modules that are not described, and sizes
    that do not fit one another.
    """
    keys = config_keys(class_name)
    given = dict(_settings(config, keys.defaults))
    known = dict(_settings(keys.defaults, keys.defaults))
    for key in given:
        if key not in known and key not in keys.aliases:
            raise _unknown(key, class_name, [*known, *keys.aliases])
        _check_type(key, given[key], known[keys.aliases.get(key, key)])
    for key, needed in keys.required.items():
        if given.get(key, needed) != needed:
            raise InputError(f"{key}: found {given[key]!r}, expected {needed!r} in {class_name}")
    architecture(class_name, nested(given))
    settings = known | {keys.aliases.get(key, key): value for key, value in given.items()}
    for key, whole in settings.items():
        part, name = key[: key.rfind(".") + 1], key[key.rfind(".") + 1 :]
        divisor = settings.get(f"{part}{_DIVISORS.get(name)}")
        if _is_no_multiple(whole, divisor):
            raise InputError(
                f"{key}: found {whole}, expected a multiple of {_DIVISORS[name]}, {divisor}"
            )
    stages = [settings[key] for key in ("depths", "hidden_sizes") if key in settings]
    if len({len(sizes) for sizes in stages}) > 1:
        raise InputError(f"depths: found {stages[0]}, expected as many as hidden_sizes {stages[1]}")
    return given


def _unknown(key: str, class_name: str, known: Sequence[str]) -> InputError:
    part = key[: key.rfind(".") + 1]
    parts = {name.partition(".")[0] for name in known if "." in name} if not part else set()
    if key in parts:
        return InputError(f"{key}: found a value, expected keys and values")
    beside = sorted({*parts, *(name for name in known if name[: name.rfind(".") + 1] == part)})
    return InputError(
        f"found key {key!r}, allowed for {class_name}: {', '.join(beside)}{near_miss(key, beside)}"
    )


def _check_type(key: str, value: object, default: object) -> None:
    """Raise `InputError` unless a value is of its default's type; transformers checks the rest."""
    if value is None or default is None:
        return
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str,), "a text"),
        list: ((list, tuple), "a list"),
    }
    types, words = kinds[type(default)]
    if not isinstance(value, types) or (isinstance(value, bool) and types != (bool,)):
        raise InputError(f"{key}: found {value!r}, expected {words}")


def _is_no_multiple(whole: object, divisor: object) -> bool:
    return isinstance(whole, int) and isinstance(divisor, int) and whole % max(divisor, 1) != 0


def _settings(
    config: Mapping[str, Any], defaults: Mapping[str, Any], beginning: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield a config's settings by dotted key; only parts of the config are gone into."""
    for key, value in config.items():
        part = defaults.get(key)
        if isinstance(part, Mapping) and isinstance(value, Mapping):
            yield from _settings(value, part, f"{beginning}{key}.")
        else:
            yield f"{beginning}{key}", value


def random_base_name(settings: Mapping[str, Any]) -> str:
    """Return the folder name of a random base: `random-<hash>` of all that makes it.

    `settings` are the fields of `RandomBase`. Raises `InputError` where the tokenizer is none.
    """
    files = {path.name: sha256_file(path) for path in _tokenizer_files(settings["tokenizer"])}
    made_by = {**settings, "tokenizer": files or settings["tokenizer"], "version": RANDOM_VERSION}
    return f"random-{sha256_json(made_by)[:8]}"


def _tokenizer_files(folder: object) -> list[Path]:
    if not isinstance(folder, str | Path):
        return []  # none, or trained on texts
    found = [Path(folder, name) for name in _TOKENIZER_FILES if Path(folder, name).is_file()]
    if not any(path.name in TOKENIZERS for path in found):
        raise InputError(
            f"base.tokenizer: {folder} holds no tokenizer; expected {' or '.join(TOKENIZERS)}"
        )
    return found


def make_random_base(
    output: str | Path,
    *,
    architecture: str,
    config: Mapping[str, Any],
    seed: int,
    tokenizer: str | Path | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    image_mean: Sequence[float] = (0.5, 0.5, 0.5),
    image_std: Sequence[float] = (0.5, 0.5, 0.5),
    texts: str | Path | None = None,
) -> None:
    """Write a model of these settings (see `RandomBase`) to the folder `output`, whole or not.

    `texts` is the table that a tokenizer is trained on, where `tokenizer` are the fields of
    `TrainedTokenizer`. The folder holds config and weights (float32, safetensors) as
    `from_pretrained` reads them, the tokenizer's files, image preprocessing where the model takes
    images, and `base.json` with what it was made by. The same arguments give the same bytes. A head
    has transformers' two classes: a task makes its own. Raises `InputError` for settings that
    transformers refuses.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if isinstance(tokenizer, Mapping):
        with tempfile.TemporaryDirectory() as trained:
            assert texts is not None
            lines = _lines(texts, tokenizer["columns"])
            train_tokenizer(lines, tokenizer["vocabulary"], trained, tokenizer.get("marks", ()))
            make_random_base(
                output, architecture=architecture, config=config, seed=seed, tokenizer=trained,
                image_size=image_size, image_mean=image_mean, image_std=image_std,
            )  # fmt: skip
        return
    files = _tokenizer_files(tokenizer)
    keys = config_keys(architecture)
    settings = {**keys.required, **_checked(architecture, config)}
    if tokenizer is not None and keys.text is not None:
        settings |= _vocabulary(tokenizer, settings, keys.text)
    if keys.text == "decoder.":
        settings |= _decoding(settings, keys)
    model_class = getattr(transformers, architecture)
    torch.manual_seed(seed)
    try:
        model = model_class(model_class.config_class(**nested(settings)))
    except (StrictDataclassError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"base.config: transformers makes no {architecture} of it ({type(error).__name__}: "
            f"{reason}); mend the setting it names"
        ) from error
    with whole_folder(output) as folder:
        model.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)  # written for its owner alone
        for path in files:
            shutil.copyfile(path, folder / path.name)
        if keys.vision is not None:
            own = {**dict(_settings(keys.defaults, keys.defaults)), **settings}
            side = own.get(f"{keys.vision}image_size") or image_size or ANY_IMAGE_SIZE
            _write_preprocessing(folder, side, image_mean, image_std)
        write_json(
            folder / "base.json",
            {
                "id": "random",
                "architecture": architecture,
                "config": dict(config),
                "seed": seed,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "tokenizer": {path.name: sha256_file(path) for path in files} or None,
            },
        )


def _lines(table: str | Path, columns: Sequence[str]) -> Iterator[str]:
    """Yield the texts of a table, column by column."""
    import polars as pl

    found = [name for name in columns if name in pl.read_parquet_schema(table)]
    if not found:
        raise InputError(
            f"base.random.tokenizer.columns: {table} has none of {', '.join(columns)}, found "
            f"{', '.join(pl.read_parquet_schema(table))}"
        )
    for name in found:
        texts = pl.read_parquet(table, columns=[name])[name]
        texts = texts.explode() if texts.dtype == pl.List else texts
        # Messages: what they say.
        texts = texts.struct.field("content") if texts.dtype == pl.Struct else texts
        yield from texts.drop_nulls()


def _vocabulary(
    tokenizer: str | Path, settings: Mapping[str, Any], beginning: str
) -> dict[str, Any]:
    """Return the size and the special tokens of a tokenizer, as keys that begin so.

    What the settings give stays; a marker that the tokenizer lacks is BERT's of the same place.
    """
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True, trust_remote_code=False)
    begin = own.cls_token_id if own.bos_token_id is None else own.bos_token_id
    end = own.sep_token_id if own.eos_token_id is None else own.eos_token_id
    found = {"vocab_size": len(own), "bos_token_id": begin, "eos_token_id": end}
    if own.pad_token_id is not None:
        found["pad_token_id"] = own.pad_token_id
    size = settings.get(f"{beginning}vocab_size", len(own))
    if size < len(own):
        raise InputError(
            f"base.config: {beginning}vocab_size: found {size}, expected at least the "
            f"{len(own)} tokens of {tokenizer}; leave it out"
        )
    return {
        f"{beginning}{key}": value
        for key, value in found.items()
        if f"{beginning}{key}" not in settings
    }


def _decoding(settings: Mapping[str, Any], keys: ConfigKeys) -> dict[str, Any]:
    """Return the tokens that an encoder-decoder starts, ends and pads with: its decoder's."""
    decoder = {**keys.defaults["decoder"], **nested(settings)["decoder"]}
    begin, end, pad = (decoder[f"{name}_token_id"] for name in ("bos", "eos", "pad"))
    return {
        "decoder_start_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": end if pad is None else pad,
    }


def _write_preprocessing(
    folder: Path, side: int, mean: Sequence[float], std: Sequence[float]
) -> None:
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(mean),
            "image_processor_type": "ViTImageProcessor",
            "image_std": list(std),
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": side, "width": side},
        },
    )
