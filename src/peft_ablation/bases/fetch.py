"""Where a study's pretrained base lies, and how one from elsewhere gets there.

Free of torch: the Snakefile imports it. Only weights as safetensors, configuration and tokenizer
files are ever copied; pickled weights and code are left where they are.
"""

import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import read_json, sha256_file, sha256_json, whole_folder, write_json
from peft_ablation.data.hub import hub_errors
from peft_ablation.errors import InputError, near_miss

log = logging.getLogger(__name__)

PHANTOM_VERSION: Final = 1
"""Raise when renderer, tokenizer or pre-training change what the same settings make."""

FILES: Final = (
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "base.json",
)
"""All that is taken from a hub repository or a folder."""

KEYWORDS: Final = ("phantom", "random")
"""Ids of bases that are made here instead of fetched."""

_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")
TOKENIZERS: Final = ("tokenizer.json", "vocab.txt", "vocab.json")
"""Files of which a tokenizer has at least one."""

_PIN: Final = (
    "pin a commit that has model.safetensors, from the page Files and versions of the model, "
    "or convert the weights and give the local folder"
)


def check_base_id(identity: str, revision: str | None) -> None:
    """Raise `InputError` unless an id can mean a base: it asks the disk, but not the hub.

    A keyword is made here; a folder must be there; `owner/name` that is no folder is a hub id and
    needs a revision. All else can only be a folder: `./x`, `/x`, `../x`, `x/y/z`, a single word.
    """
    path = Path(identity)
    if identity in KEYWORDS or path.is_dir():
        return
    if _HUB_ID.fullmatch(identity) and not path.exists():
        if revision is None:
            raise InputError(
                f"base.revision: missing: no folder {identity}, and a hub id needs its commit; pin "
                "it, from the page Files and versions of the model"
            )
        return
    found = "a file, expected a folder" if path.exists() else "no such folder"
    raise InputError(
        f"base.id: {identity!r} is {found}; expected {', '.join(KEYWORDS)}, a folder that holds "
        f"config.json, or a hub id such as microsoft/git-base{near_miss(identity, KEYWORDS)}"
    )


def base_folder(bases: str, base: Mapping[str, Any], prompt: str = "") -> str:
    """Return the folder of a base under `bases`; `base` holds the fields of `config.Base`.

    The name says what is inside: `phantom-<hash>` of pre-training settings, prompt and renderer
    version; `<org>--<name>@<revision>`; `<name>@local-<hash>` of a folder's path, configuration and
    size of weights. So two studies share a base exactly when they mean the same one.
    """
    identity, root = base["id"], bases.rstrip("/")
    if identity == "phantom":
        made_by = {
            "pretraining": dict(base["pretraining"]),
            "prompt": prompt,
            "version": PHANTOM_VERSION,
        }
        return f"{root}/phantom-{sha256_json(made_by)[:8]}"
    if Path(identity).is_dir():
        return f"{root}/{Path(identity).resolve().name}@local-{_fingerprint(Path(identity))}"
    name = identity.replace("/", "--")
    return f"{root}/{_safe(name)}@{_safe(str(base['revision']))}"


def base_name(folder: str | Path) -> str:
    """Return what tables call a base: the name of its folder under `bases`.

    A copied folder is told by its content, not by where it lay and when: `<name>@local-<hash>` of
    the SHA-256 of its files, so that the same base gives the same tables anywhere.
    """
    path = Path(folder)
    name, local, _ = path.name.partition("@local-")
    record = path / "base.json"
    if not local or not record.is_file():
        return path.name
    return f"{name}{local}{sha256_json(read_json(record)['sha256'])[:8]}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "base"


def _fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if _wanted(path.name))
    config = folder / "config.json"
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    content = sha256_file(config) if config.is_file() else None
    return sha256_json([str(folder.resolve()), state, content])[:8]


def _wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILES)


def fetch_base(
    identity: str,
    revision: str | None,
    output: str | Path,
    *,
    model_types: Collection[str],
    tokenizer: bool | Collection[str],
) -> None:
    """Copy a base from the hub at a commit, or from a local folder, to `output`.

    Writes `base.json` with the id, the commit that `revision` resolved to (null for a folder) and
    the SHA-256 of each file. Raises `InputError` for an id that is neither, a hub that cannot be
    reached, and a base that `check_base` refuses; nothing is left then.
    """
    check_base_id(identity, revision)
    with whole_folder(output) as folder:
        local = Path(identity)
        if local.is_dir():
            commit = None
            check_base(local, model_types=model_types, tokenizer=tokenizer)
            for path in sorted(local.iterdir()):
                if path.is_file() and _wanted(path.name):
                    shutil.copyfile(path, folder / path.name)
        else:
            assert revision is not None
            commit = _download(identity, revision, folder)
            name = f"{identity} at {revision}"
            check_base(folder, name, model_types=model_types, tokenizer=tokenizer)
            if commit != revision:
                log.warning("base.revision: %s may move; pin %s", revision, commit)
        sums = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
        sums.pop("base.json", None)
        record = {"id": identity, "revision": revision, "commit": commit, "sha256": sums}
        write_json(folder / "base.json", record)


def _download(identity: str, revision: str, folder: Path) -> str:
    """Download the wanted files of a hub repository into `folder` and return the commit."""
    from huggingface_hub import HfApi, snapshot_download

    with hub_errors(
        "base.id", "base.revision", "model", identity, revision,
        rule="fetch_base", instead="set base.id to a local folder",
    ):  # fmt: skip
        commit = str(HfApi().model_info(identity, revision=revision, timeout=30).sha)
        snapshot_download(
            identity, revision=commit, local_dir=folder, allow_patterns=list(FILES), max_workers=4
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return commit


def check_base(
    folder: str | Path,
    name: str | None = None,
    *,
    model_types: Collection[str],
    tokenizer: bool | Collection[str],
) -> None:
    """Raise `InputError` unless a folder holds a base: configuration and whole safetensors.

    Its `model_type` must be among `model_types`, where any are given; `tokenizer` says whether one
    must lie beside the weights, or of which `model_type`s. `name` is what the base is called in
    messages.
    """
    root, where = Path(folder), name or str(folder)
    config = root / "config.json"
    if not config.is_file():
        raise InputError(f"base {where}: no config.json; expected a model folder of transformers")
    try:
        settings = read_json(config)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"base {where}: config.json is not JSON; fetch the base again") from None
    found = settings.get("model_type") if isinstance(settings, dict) else None
    if model_types and found not in model_types:
        raise InputError(
            f"base {where}: found a base of another architecture, model_type {found!r}; the task "
            f"takes {', '.join(sorted(model_types))}"
        )
    weights = sorted(root.glob("*.safetensors"))
    if not weights:
        others = sorted(path.name for path in root.iterdir() if path.suffix in (".bin", ".pt"))
        beside = f" (found {', '.join(others)}, which is not read)" if others else ""
        raise InputError(f"base {where}: no *.safetensors{beside}; {_PIN}")
    for path in weights:
        _check_safetensors(path, where)
    index = root / "model.safetensors.index.json"
    if index.is_file():
        listed = set(read_json(index)["weight_map"].values())
        missing = sorted(listed - {path.name for path in weights})
        if missing:
            raise InputError(f"base {where}: {missing[0]} is missing; fetch the base again")
    needed = tokenizer if isinstance(tokenizer, bool) else found in tokenizer
    if needed and not any((root / file).is_file() for file in TOKENIZERS):
        raise InputError(
            f"base {where}: no tokenizer; expected {' or '.join(TOKENIZERS)} beside the weights"
        )


def _check_safetensors(path: Path, where: str) -> None:
    """Refuse a file whose length is not what its own header says (a broken-off copy)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 0 < length <= size - 8 else None
            ends = [
                entry["data_offsets"][1]
                for tensor, entry in (header or {}).items()
                if tensor != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError):
            ends = []
    if not ends or max(ends) + 8 + length != size:
        raise InputError(
            f"base {where}: {path.name} is no whole safetensors file ({size} bytes); fetch it again"
        )
