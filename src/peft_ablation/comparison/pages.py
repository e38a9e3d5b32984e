"""A page of headings, paragraphs, lists and tables, as Markdown and as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

NONE: Final = "–"
"""A cell without a value."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Items:
    """An unordered list of plain text."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table of plain text; all columns but the first are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Texts:
    """Texts side by side, a column each; their line breaks are kept."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Paragraph | Items | Table | Texts


def plain(value: float | None, digits: int, scale: float = 1, unit: str = "") -> str:
    """Return a number as a cell says it, `NONE` where there is none."""
    return NONE if value is None else f"{value * scale:,.{digits}f}{unit}"


def with_interval(row: Mapping[str, Any], column: str, digits: int, sign: str = "") -> str:
    """Return `column` of a row as a cell says it, with `column_low` and `column_high`.

    `sign` is that of the format: `+` for differences.
    """
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return NONE
    form = f"{sign}.{digits}f"
    return f"{value:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def p_cell(value: float | None) -> str:
    """Return a p value as a cell says it."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def said_p(value: float) -> str:
    """Return a p value as a sentence says it."""
    return p_cell(value) if value < 0.001 else f"= {p_cell(value)}"


def markdown(blocks: Sequence[Block]) -> str:
    """Return the page as Markdown (tables as on GitHub)."""
    return "\n".join(_markdown(block) + "\n" for block in blocks)


def html(blocks: Sequence[Block], title: str) -> str:
    """Return the page as one HTML file without scripts or anything from elsewhere."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{html_of(blocks)}\n</body>\n</html>\n"
    )


def html_of(blocks: Sequence[Block]) -> str:
    """Return the blocks as HTML elements, for a page of its own frame."""
    return "\n".join(_html(block) for block in blocks)


_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #1a1a1a; background: #fff; }
p, li { max-width: 52em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; }
th, td { padding: .3em .6em; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: normal;
  max-width: 7.5em; overflow-wrap: break-word; }
th:first-child, td:first-child { text-align: left; }
.texts th { max-width: none; }
.texts th, .texts td { text-align: left; vertical-align: top; }
.texts td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 16em; max-width: 32em; }
"""


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Items):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Table):
        columns = len(block.header)
        lines = [block.header, ["---", *["---:"] * (columns - 1)], *block.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
    if isinstance(block, Texts):
        return _markdown(Table(block.header, [[_one_line(c) for c in row] for row in block.rows]))
    return block.text


def _one_line(text: str) -> str:
    """Return a text as one line of Markdown, in which it begins no element."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Items):
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Table | Texts):
        head = "".join(f"<th>{escape(cell)}</th>" for cell in block.header)
        rows = "\n".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in block.rows
        )
        kind = ' class="texts"' if isinstance(block, Texts) else ""
        return (
            f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody></table></div>"
        )
    return f"<p>{escape(block.text)}</p>"
