"""Which column of a table is what, guessed from its name and its values, and said why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from peft_ablation.errors import InputError, near_miss
from peft_ablation.sources.class_folders import SUFFIXES
from peft_ablation.sources.table.rows import SPLIT_WORDS

ROLES: Final = (
    "image", "text", "text_pair", "label", "score", "report", "group", "split", "example_id",
)  # fmt: skip
"""Roles that a column can be guessed to have."""

MOST_CLASSES: Final = 200
FEWEST_A_CLASS: Final = 3

_LABEL = re.compile(
    r"(^|[_ ])(gold_?)?(label|class|category|target|sentiment|y)(e?s)?($|[_ ])|^is_\w+"
)
_MAYBE_LABEL = re.compile(
    r"(^|[_ ])(species|breed|diagnosis|topic|intent|emotion|genre|quality|kind|type)s?($|[_ ])"
)
_SCORE = re.compile(r"(^|[_ ])(score|rating|similarity|grade|stars|value)s?($|[_ ])")
_TEXT = re.compile(
    r"(^|[_ ])(text|sentence|review|comment|question|premise|utterance|body|title|tweet|message"
    r"|content|query|passage)s?\d?($|[_ ])"
)
_REPORT = re.compile(r"(^|[_ ])(report|caption|description|findings)s?($|[_ ])")
_GROUP = re.compile(
    r"(^|[_ ])(patient|subject|speaker|author|user|owner|group|article|document|session|family"
    r"|source|site|person|participant|customer|promptid|title|doc)(_?id)?s?($|[_ ])"
)
_ID = re.compile(r"(^|[_ ])(id|idx|index|uid|guid|uuid|key|example_id|row)($|[_ ])")
_PAIRS: Final = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "passage"),
    ("query", "document"), ("text_a", "text_b"), ("#1 string", "#2 string"),
    ("sentence_1", "sentence_2"), ("question_1", "question_2"), ("text_1", "text_2"),
    ("text", "text_pair"), ("first", "second"), ("source", "target"),
)  # fmt: skip
"""Names of two columns whose texts belong together, in lower case."""


@dataclass(frozen=True)
class Guess:
    """A column and the role that it is held to have."""

    column: str | int
    """Its name, or its place from 1 on in a table without header."""
    why: str


@dataclass(frozen=True)
class _Column:
    """What the values of a column look like."""

    name: str | int
    values: pl.Series
    distinct: int
    missing: int
    words: float
    """Words of a value, on average."""
    numbers: float
    """Share of values that are numbers."""
    whole: float
    """Share of values that are whole numbers."""

    @property
    def said(self) -> str:
        """The name in lower case; nothing for a place."""
        return self.name.strip().lower() if isinstance(self.name, str) else ""


def guess_columns(
    table: pl.DataFrame, given: Mapping[str, str | int | None], *, header: bool = True
) -> dict[str, Guess]:
    """Return the columns by role, as far as names and values tell.

    `table` has text alone, null where a value is missing; without `header` its columns are named
    by their places, from 1 on. `given` are roles that a person says, None for a role that no
    column has.

    Raises `InputError` where a given role or column does not exist, and where nothing is there to
    be learnt, or to learn it from.
    """
    columns = {_name(name, header): _look(table[name], header) for name in table.columns}
    guesses: dict[str, Guess] = {}
    for role, column in given.items():
        if role not in ROLES:
            raise InputError(
                f"columns: found role {role!r}, allowed: {', '.join(ROLES)}{near_miss(role, ROLES)}"
            )
        if column is not None and column not in columns:
            found = [str(name) for name in columns]
            raise InputError(
                f"columns: {role}: no column {column!r}, found {', '.join(found)}"
                f"{near_miss(str(column), found)}"
            )
        if column is not None:
            guesses[role] = Guess(column, "as you said")
    free = {
        name: column
        for name, column in columns.items()
        if name not in [guess.column for guess in guesses.values()]
    }
    for finder in (_split, _image, _identity, _target, _texts, _group):
        for role, guess in finder(list(free.values()), guesses).items():
            if role not in given and role not in guesses:
                guesses[role] = guess
                free.pop(guess.column, None)
    _check(guesses, columns)
    return {role: guesses[role] for role in ROLES if role in guesses}


def _name(name: str, header: bool) -> str | int:
    return name if header else int(name)


def _look(values: pl.Series, header: bool) -> _Column:
    there = values.drop_nulls()
    many = max(there.len(), 1)
    numbers = there.str.strip_chars().cast(pl.Float64, strict=False).drop_nulls()
    return _Column(
        name=_name(values.name, header),
        values=there,
        distinct=there.n_unique(),
        missing=values.null_count(),
        words=float(there.str.count_matches(r"\S+").mean() or 0),  # type: ignore[arg-type]
        numbers=numbers.len() / many,
        whole=int((numbers == numbers.round()).sum()) / many,
    )


def _rows(column: _Column) -> int:
    return column.values.len() + column.missing


def _split(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    for column in free:
        words = column.values.str.to_lowercase().unique()
        several = 2 <= words.len() <= len(SPLIT_WORDS) and words.is_in(list(SPLIT_WORDS)).all()
        if several and "train" in [SPLIT_WORDS[word] for word in words]:
            return {"split": Guess(column.name, f"its values are {_listed(sorted(words))}")}
    return {}


def _image(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    endings = [f"{ending}$" for ending in SUFFIXES]
    pattern = "(?i)" + "|".join(ending.replace(".", r"\.") for ending in endings)
    for column in free:
        if column.values.len() and column.values.str.contains(pattern).mean() >= 0.95:  # type: ignore[operator]
            return {"image": Guess(column.name, "its values end as names of image files do")}
    return {}


def _identity(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    for column in free:
        alone = column.distinct == _rows(column) and not column.missing
        called = _ID.search(column.said) and not re.search(r"\d", column.said)
        if alone and called and column.words < 1.5:
            return {
                "example_id": Guess(column.name, "named like an id, and every value is another")
            }
    return {}


def _target(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    """Return the label or the score: one by its name, else one by its few values."""
    if "label" in known or "score" in known:
        return {}
    classes = [column for column in free if _has_classes(column)]
    scores = [column for column in free if column.numbers >= 0.95 and column.distinct > 2]
    for role, among, pattern, told in (
        ("label", classes, _LABEL, _classes),
        ("score", scores, _SCORE, _range),
        ("label", classes, _MAYBE_LABEL, _classes),
    ):
        named = [column for column in among if pattern.search(column.said)]
        if named:
            return {role: Guess(named[0].name, f"named like a {role}, {told(named[0])}")}
    short = [column for column in classes if column.words < 4 and not _GROUP.search(column.said)]
    if short:
        best = min(short, key=lambda column: column.distinct)
        others = [str(column.name) for column in short if column is not best]
        more = f"; {_listed(others)} could be one as well" if others else ""
        return {"label": Guess(best.name, f"it has few values: {_classes(best)}{more}")}
    broken = [column for column in scores if column.whole < 1]
    if len(broken) == 1:
        return {
            "score": Guess(broken[0].name, f"the only numbers with fractions, {_range(broken[0])}")
        }
    return {}


def _has_classes(column: _Column) -> bool:
    few = 2 <= column.distinct <= min(MOST_CLASSES, _rows(column) / FEWEST_A_CLASS)
    return few and not (column.numbers > 0.95 and column.whole < 0.95)


def _texts(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    """Return the text or both; beside images and without a label it is to be written."""
    wordy = [column for column in free if column.words >= 2 and column.numbers < 0.5]
    if "image" in known:
        if "label" in known or not wordy:
            return {}
        named = [column for column in wordy if _REPORT.search(column.said)]
        best = (named or sorted(wordy, key=lambda column: -column.words))[0]
        return {
            "report": Guess(best.name, f"{best.words:.0f} words a row, to be written for an image")
        }
    if "text" in known:
        return {}
    by_name = {column.said: column for column in free if column.said}
    for one, other in _PAIRS:
        if one in by_name and other in by_name and by_name[one].words >= 1.5:
            first, second = by_name[one], by_name[other]
            return {
                "text": Guess(first.name, f"{first.words:.0f} words a row, and a pair by its name"),
                "text_pair": Guess(
                    second.name, f"the second text of the pair, {second.words:.0f} words"
                ),
            }
    named = [column for column in wordy if _TEXT.search(column.said)]
    if not wordy:
        return {}
    best = max(named or wordy, key=lambda column: column.words)
    told = f"{best.words:.0f} words a row" + (", and named like a text" if named else "")
    others = [str(column.name) for column in wordy if column is not best]
    more = f"; {_listed(others)} could be a text_pair" if others else ""
    return {"text": Guess(best.name, told + more)}


def _group(free: Sequence[_Column], known: Mapping[str, Guess]) -> dict[str, Guess]:
    for column in free:
        several = 3 <= column.distinct < _rows(column) and not column.missing
        if several and _GROUP.search(column.said):
            rows = _rows(column) / column.distinct
            why = (
                f"named like what must not be divided, {column.distinct:,} of {rows:.1f} rows each"
            )
            return {"group": Guess(column.name, why)}
    return {}


def _check(guesses: Mapping[str, Guess], columns: Mapping[str | int, _Column]) -> None:
    told = guesses.keys() & {"label", "score", "report"}
    read = guesses.keys() & {"image", "text"}
    found = ", ".join(str(name) for name in columns)
    if not read:
        raise InputError(
            f"no column looks like names of image files or like texts, found {found}; say which "
            "is, e.g. --column text=NAME"
        )
    if not told:
        raise InputError(
            f"no column looks like a label (2 to {MOST_CLASSES} different values, {FEWEST_A_CLASS} "
            f"rows or more each) or a score, found {found}; say which is, e.g. --column label=NAME"
        )


def _classes(column: _Column) -> str:
    counts = column.values.value_counts(sort=True)["count"]
    return f"{column.distinct} classes of {counts[-1]:,} to {counts[0]:,} rows"


def _range(column: _Column) -> str:
    numbers = column.values.cast(pl.Float64, strict=False).drop_nulls().to_numpy()
    return f"numbers from {numbers.min():g} to {numbers.max():g}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
