"""The study file of a table: a comment for every guess, and settings that run as they are."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from peft_ablation.artifacts import write_text
from peft_ablation.config.loading import OWN_STUDIES, STUDIES, load_config
from peft_ablation.errors import InputError
from peft_ablation.new_study.guesses import Guess, guess_columns
from peft_ablation.sources.table import TableData
from peft_ablation.sources.table.reading import columns_of, read_file

LOOKED_AT: Final = 200
"""Most image files that are looked for before a study is written."""
SMOKE_ROWS: Final = 2000
"""Rows that a smoke run reads of a larger table, or thirty a class."""

ARMS: Final = {
    "image_classification": (5e-5, 5e-4, 1e-3),
    "text_classification": (2e-5, 4e-4, 1e-3),
    "captioning": (2e-5, 4e-4, None),
}
"""Learning rates of fft, lora and head_only, by task; null: no such arm."""

BASES: Final = {
    "image_classification": ("google/vit-base-patch16-224-in21k", "vit"),
    "text_classification": ("FacebookAI/roberta-base", "roberta"),
    "captioning": ("microsoft/git-base", "git"),
}

_SMOKE_BASE: Final = {
    "image_classification": """\
      architecture: ViTForImageClassification
      config:
        {hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 3, intermediate_size: 96,
         image_size: 64, patch_size: 16}
""",
    "text_classification": """\
      architecture: RobertaForSequenceClassification
      config:
        {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64,
         max_position_embeddings: 130, type_vocab_size: 1}
      tokenizer: {vocabulary: 1000}  # trained on the table's own texts
""",
}


@dataclass(frozen=True)
class Written:
    """A study that was written."""

    path: Path
    root: Path | None
    """Folder to give as `data_root`; None where the study needs none."""
    guesses: Mapping[str, Guess]
    task: str
    warning: str | None
    """What is wrong with rows of the table, in one line; None where nothing is."""

    @property
    def config(self) -> str:
        """What follows `--config` to run it."""
        root = "" if self.root is None else f" data_root={self.root}"
        return f"study={self.path.stem}{root}"


def write_study(
    table: Path,
    *,
    images: Path | None = None,
    name: str | None = None,
    columns: Mapping[str, str | int | None] | None = None,
    header: bool | None = None,
    folder: Path = OWN_STUDIES,
) -> Written:
    """Write `<folder>/<name>.yaml` for a table, its columns guessed where `columns` says nothing.

    `images` is the folder that image paths are relative to (the table's own by default), `name` is
    made from the table's, `header` says whether the first line of CSV and TSV names the columns
    (guessed by default).

    Raises `InputError` where the table cannot be read, nothing tells what is to be learnt, an image
    is not there, or the study exists already.
    """
    if not table.is_file():
        raise InputError(f"table: no file {table}; expected CSV, TSV, Parquet or JSON lines")
    name = name or _name(table)
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise InputError(f"name: found {name!r}, expected letters, digits and underscores")
    path = folder / f"{name}.yaml"
    for place in (path, STUDIES / path.name):
        if place.exists():
            raise InputError(f"{place} exists already; take another name, or move it away")
    kind = TableData(source="table", files=table.name, columns={"text": 1}).format_of(table.name)
    whole, with_header = _read(table, kind, header)
    guesses = guess_columns(whole, columns or {}, header=with_header)
    root = _root(table, images, whole, guesses)
    text = _study(table, root, name, whole, guesses, kind, with_header)
    warning = _checked(text, name, root)
    write_text(path, text)
    return Written(path, root, guesses, _task(guesses), warning)


def _name(table: Path) -> str:
    stem = table.name.removesuffix(".gz").rsplit(".", 1)[0].lower()
    return re.sub(r"[^a-z0-9]+", "_", stem).strip("_") or "mine"


def _read(table: Path, kind: str, header: bool | None) -> tuple[pl.DataFrame, bool]:
    """Return all columns as text, named by place where there is no header; and whether there is."""
    text = kind in ("csv", "tsv")
    with_header = True
    if text:
        first = columns_of(table.name, str(table), kind=kind)
        with_header = _is_header(first) if header is None else header
    names = columns_of(table.name, str(table), kind=kind)
    wanted = list(range(1, len(names) + 1))
    whole = read_file(table.name, str(table), wanted, kind=kind, header=with_header)
    nested = [column for column in whole.columns if whole[column].dtype.is_nested()]
    whole = whole.drop(nested).select(pl.all().cast(pl.String))
    if with_header:
        whole = whole.rename({str(n): names[n - 1] for n in wanted if str(n) in whole.columns})
    if whole.is_empty():
        raise InputError(f"data: {table.name} is empty, expected rows")
    return whole, with_header


def _is_header(first: list[str]) -> bool:
    """Tell whether a line names columns: short words, no numbers, nothing empty or twice."""
    twice = any("_duplicated_" in name for name in first)
    number = any(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name.strip()) for name in first)
    long = any(len(name.split()) > 4 or not name.strip() for name in first)
    return not (twice or number or long)


def _task(guesses: Mapping[str, Guess]) -> str:
    if "image" in guesses:
        return "captioning" if "report" in guesses else "image_classification"
    return "text_classification"


def _root(
    table: Path, images: Path | None, whole: pl.DataFrame, guesses: Mapping[str, Guess]
) -> Path | None:
    """Return the folder that files and images are named from."""
    if "image" not in guesses:
        return table.parent.resolve()
    if images is not None and not images.is_dir():
        raise InputError(f"images: no folder {images}")
    column = str(guesses["image"].column)
    names = whole[column].drop_nulls().head(LOOKED_AT).to_list()
    places = [images, table.parent] if images is not None else [table.parent]
    for place in places:
        if all((place / name).is_file() for name in names):
            return place.resolve()
    lacking = next(name for name in names if not (places[0] / name).is_file())
    raise InputError(
        f"images: column {column} names {lacking!r}, which is not under {places[0]}; say with "
        "--images FOLDER what its names are relative to"
    )


def _checked(text: str, name: str, root: Path | None) -> str | None:
    """Refuse a study that would not start; return what its table's rows lack, in one line."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.yaml").write_text(text, encoding="utf-8")
        site = {"study": name, "data_root": None if root is None else str(root)}
        for smoke in (True, False):
            config = load_config({**site, "smoke": smoke}, studies=[folder, STUDIES])
        try:
            config.source.read()
        except InputError as error:
            return str(error)
    return None


def _study(
    table: Path,
    root: Path | None,
    name: str,
    whole: pl.DataFrame,
    guesses: Mapping[str, Guess],
    kind: str,
    header: bool,
) -> str:
    task = _task(guesses)
    place = table.resolve()
    file = str(place.relative_to(root)) if root and place.is_relative_to(root) else str(place)
    run = f"--config study={name}" + (f" data_root={root}" if root else "")
    identity, model_type = BASES[task]
    labels = _labels(whole, guesses)
    rows = max(SMOKE_ROWS, 30 * len(labels))
    images = task != "text_classification"
    return "".join(
        [
            f"# Written by `python -m peft_ablation.new_study` from {table.name}: {whole.height:,} "
            f"rows, {whole.width} columns.\n"
            "# Each guess says why; docs/your-data.md tells how to change it.\n"
            f"#   snakemake -n {run}\n"
            "# tells what would run; a few minutes, to see that it does (scores mean nothing):\n"
            f"#   snakemake --cores all --resources gpu=1 {run} smoke=true\n"
            "# and the comparison:\n"
            f"#   snakemake --cores all --resources gpu=1 {run}\n",
            _task_lines(task, guesses),
            "data:\n  source: table\n"
            "  public: false  # true: texts and images may stand in figures and reports\n"
            f"  files: {_quoted(file)}\n",
            ""
            if header
            else "  header: false  # the first line looks like a row: columns by place\n",
            f"  columns:\n{_column_lines(whole, guesses)}",
            _split_lines(guesses, labels),
            "images: {size: 224, colour: true, shards: 8}\n" if images else "",
            "# A branch can move: the first fetch says its commit; write that in place of main.\n"
            f"base: {{id: {identity}, revision: main, model_type: {model_type}}}\n",
            "train: {epochs: 10, epochs_per_chunk: 5, batch_size: 32, seeds: [0, 1, 2]}\n",
            _arm_lines(task),
            _smoke_lines(task, rows if whole.height > rows else None),
        ]
    )


def _task_lines(task: str, guesses: Mapping[str, Guess]) -> str:
    if task == "captioning":
        told = f"  # column {guesses['report'].column} is what is to be written for an image\n"
        return (
            f"task:{told}  name: captioning\n  prompt: 'describe this image:'\n"
            "  max_tokens: 96\n  too_long: cut\n"
        )
    if task == "image_classification":
        return "task: {name: image_classification}  # images, and a label to tell\n"
    if "score" in guesses:
        return (
            "task: {name: text_classification, target: score, too_long: cut}  # a number to tell\n"
        )
    return "task: {name: text_classification, too_long: cut}  # texts, and a label to tell\n"


def _column_lines(whole: pl.DataFrame, guesses: Mapping[str, Guess]) -> str:
    lines = [f"    {role}: {_quoted(g.column)}  # {g.why}\n" for role, g in guesses.items()]
    if "group" not in guesses:
        lines.append(_own_group(whole, guesses))
    used = {str(guess.column) for guess in guesses.values()}
    rest = [column for column in whole.columns if column not in used]
    if rest:
        lines.append(f"    # not used: {', '.join(rest)}\n")
    return "".join(lines)


def _own_group(whole: pl.DataFrame, guesses: Mapping[str, Guess]) -> str:
    """Return a group where inputs stand more than once: they must not be in two splits."""
    column = guesses["text" if "text" in guesses else "image"].column
    values = whole[str(column)]
    again = values.drop_nulls().len() - values.drop_nulls().n_unique()
    if again:
        return (
            f"    group: {_quoted(column)}  # {again:,} rows repeat another's: what is alike stays "
            "in one split\n"
        )
    return "    # group: NAME  # what must not be divided between splits, such as a patient\n"


def _labels(whole: pl.DataFrame, guesses: Mapping[str, Guess]) -> list[str]:
    if "label" not in guesses:
        return []
    return sorted(whole[str(guesses["label"].column)].drop_nulls().unique())


def _split_lines(guesses: Mapping[str, Guess], labels: list[str]) -> str:
    if "split" in guesses:
        return (
            "split: {given: keep, train: 0.7, val: 0.15, test: 0.15, seed: 33}  # as given; what "
            "lacks is cut from train\n"
        )
    even = " and share the classes evenly" if labels else ""
    return (
        "split: {train: 0.7, val: 0.15, test: 0.15, seed: 33}  # drawn here: groups stay whole"
        f"{even}\n"
    )


def _arm_lines(task: str) -> str:
    full, lora, head = ARMS[task]
    arms = (
        "# Rates are usual ones, not tuned here: try others with `sweep` (config/README.md).\n"
        f"arms:\n  fft: {{method: full, learning_rate: {full:.1e}}}\n"
        "  lora: {method: lora, targets: attention, r: 8, alpha: 16, "
        f"learning_rate: {lora:.1e}}}\n"
    )
    return arms + (
        "" if head is None else f"  head_only: {{method: head_only, learning_rate: {head:.1e}}}\n"
    )


def _smoke_lines(task: str, rows: int | None) -> str:
    limit = "" if rows is None else f"  data: {{limit: {rows}}}\n"
    train = (
        "  train: {epochs: 1, epochs_per_chunk: 1, batch_size: 16, precision: fp32, seeds: [0], "
        "threads: 1}\n  score: {bootstrap_samples: 100}\n"
    )
    if task == "captioning":
        return (
            f"smoke:\n{limit}  images: {{size: 48, shards: 1, colour: false}}\n"
            "  base:\n    id: phantom\n    revision: null\n    model_type: null\n    pretraining:\n"
            "      {images: 64, epochs: 1, image_size: 48, patch_size: 8, hidden_size: 32, "
            f"vision_layers: 2,\n       text_layers: 2, attention_heads: 2}}\n{train}"
        )
    images = "" if task == "text_classification" else "  images: {size: 64, shards: 1}\n"
    tokens = "  task: {max_tokens: 128}\n" if task == "text_classification" else ""
    return (
        f"smoke:\n{limit}{tokens}{images}"
        "  base:\n    id: random\n    revision: null\n    model_type: null\n    random:\n"
        f"{_SMOKE_BASE[task]}{train}"
    )


def _quoted(name: str | int) -> str:
    """Return a name as YAML, in quotes where it would be read as something else."""
    if isinstance(name, int) or re.fullmatch(r"[A-Za-z_][\w./-]*", name):
        words = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
        return str(name) if str(name).lower() not in words else f"'{name}'"
    return json.dumps(name, ensure_ascii=False)
