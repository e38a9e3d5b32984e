"""Seconds and peak memory of reading, checking and splitting a table of a million rows.

    python tests/benchmarks/table.py [--rows 1000000] [--groups 0] [--kind csv] [--folder FOLDER]

Makes a table of texts of about a hundred characters, ten classes and, with `--groups`, so many
groups of unequal size; then runs the two jobs `read_examples` and `stratify_splits` in a process of
its own each, as the workflow does. Seconds are of the whole process: start, imports, reading and
writing; memory is the largest resident set. Wanted: both together under 20 s, each under 2 GB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

STAGES = {
    "read_examples": """
from peft_ablation.sources import read_examples
read_examples(
    {settings!r}, {{"data_root": "."}}, output="examples.parquet", account="examples.json"
)
""",
    "stratify_splits": """
from peft_ablation.data.splits import split_table
names = ("train", "val", "test")
split_table(
    "examples.parquet", unit="group",
    units={{"group": ("group",), "example": ("example_id",)}}, given="keep",
    shares={{"train": 0.6, "val": 0.2, "test": 0.2}}, seed=33,
    outputs={{n: f"{{n}}.parquet" for n in names}}, csv={{n: f"{{n}}.csv" for n in names}},
    balance="balance.csv", account="account.json"
)
""",
}


def make_table(path: Path, rows: int, groups: int) -> None:
    """Write a table with `text`, `label`, `score` and, with groups, `group`."""
    random = np.random.default_rng(0)
    words = np.array(["word", "sentence", "table", "a", "of", "many", "texts", "quick", "brown"])
    drawn = words[random.integers(0, len(words), (rows, 16))]
    columns = {
        "text": [f"{number} {' '.join(line)}" for number, line in enumerate(drawn)],
        "label": random.choice(10, rows, p=np.arange(1, 11) / 55),
        "score": random.random(rows).round(3),
    }
    if groups:
        weight = random.pareto(1.5, groups) + 0.3
        columns["group"] = random.choice(groups, rows, p=weight / weight.sum())
    table = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=0)
    parser.add_argument("--kind", default="csv", choices=["csv", "tsv", "parquet"])
    parser.add_argument("--balance", default="label", choices=["label", "score"])
    parser.add_argument("--folder")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
        folder = Path(name)
        make_table(folder / f"table.{wanted.kind}", wanted.rows, wanted.groups)
        size = (folder / f"table.{wanted.kind}").stat().st_size
        columns = {"text": "text", wanted.balance: wanted.balance}
        if wanted.groups:
            columns["group"] = "group"
        settings = {"source": "table", "files": f"table.{wanted.kind}", "columns": columns}
        print(f"{wanted.rows:,} rows, {size / 1e6:.0f} MB of {wanted.kind}")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for stage, code in STAGES.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code.format(settings=settings)], cwd=folder, check=True
            )
            seconds = time.perf_counter() - start
            # Memory is of all children so far: a later stage that needs less shows no less.
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
            print(f"{stage}: {seconds:.1f} s, {cpu:.1f} s of CPU, {used.ru_maxrss / 1e6:.2f} GB")
            before = used
        account = json.loads((folder / "account.json").read_text())
        print({key: account[key] for key in ("rows", "leakage", "coefficient_of_variation_max")})


if __name__ == "__main__":
    main()
