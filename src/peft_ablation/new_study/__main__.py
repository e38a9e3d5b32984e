"""Write a study for a table: `python -m peft_ablation.new_study TABLE [--images FOLDER]`."""

import argparse
import sys
from pathlib import Path

from peft_ablation.errors import InputError


def main() -> int:
    """Write the study that the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m peft_ablation.new_study",
        description="Write config/studies/<name>.yaml for a table, each guess with its reason.",
    )
    parser.add_argument("table", type=Path, help="CSV, TSV, Parquet or JSON lines")
    parser.add_argument("--images", type=Path, help="folder that image names are relative to")
    parser.add_argument("--name", help="name of the study; default: that of the table")
    parser.add_argument(
        "--column", action="append", default=[], metavar="ROLE=NAME",
        help="say which column is image, text, text_pair, label, score, report, group, split or "
        "example_id; without a name, that none is",
    )  # fmt: skip
    header = parser.add_mutually_exclusive_group()
    header.add_argument("--header", dest="header", action="store_true", default=None,
                        help="the first line names the columns")  # fmt: skip
    header.add_argument("--no-header", dest="header", action="store_false",
                        help="the first line is a row; columns are called 1, 2, …")  # fmt: skip
    told = parser.parse_args()
    try:
        return _write(told)
    except InputError as error:
        print(f"peft-ablation: {error}", file=sys.stderr)
        return 1


def _write(told: argparse.Namespace) -> int:
    # polars is imported here, so that --help is quick.
    from peft_ablation.new_study.study_file import write_study

    columns: dict[str, str | int | None] = {}
    for text in told.column:
        role, _, name = text.partition("=")
        columns[role] = int(name) if name.isdecimal() else name or None
    written = write_study(
        told.table, images=told.images, name=told.name, columns=columns, header=told.header
    )
    print(f"{written.path}: {written.task}")
    for role, guess in written.guesses.items():
        print(f"  {role}: {guess.column} ({guess.why})")
    if written.warning:
        print(f"mend before it runs: {written.warning}")
    print(f"next: snakemake -n --config {written.config}")
    return 0


sys.exit(main())
