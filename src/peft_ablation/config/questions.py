"""The `questions:` section: what base and arms are asked, and grades of what they answer."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from peft_ablation.config.base import Base
from peft_ablation.config.section import Section, Seed
from peft_ablation.errors import InputError

UNTOUCHED: Final = "base"
"""What the untouched base is called in the table of answers; of several, `base_of_<arm>`."""

INSTRUCT: Final = "instruct"
"""What the instruct model is called there."""

Question = Annotated[str, StringConstraints(pattern=r"\S")]


class Questions(Section):
    """Questions that the untouched base, each arm and perhaps an instruct model answer."""

    texts: tuple[Question, ...] | None = Field(None, min_length=1)
    """The questions."""
    file: str | None = None
    """In place of them: a UTF-8 file with one question a line; empty lines are passed over."""
    seed: Seed | None = None
    """The seed of the runs that are asked, one of `train.seeds`; null: each of them."""
    instruct: Base | None = None
    """An instruct model that is asked as well: an `id`, with a `revision` where it is a hub's."""
    sheet_seed: Seed = 0
    """Seed of the orders in which the sheet to be graded shows the answers."""
    grades: str | None = None
    """CSV file with grades of these answers: a filled copy of the sheet, or a table of one's own
    with `question`, `arm`, `seed`, `order`, `grade` and `justification`. null: not graded."""
    scale: tuple[float, float] = (1, 9)
    """Lowest and highest grade; higher is better."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.texts is None) == (self.file is None):
            raise ValueError("expected one of texts and file")
        return self

    @model_validator(mode="after")
    def _scale_ascends(self) -> Self:
        if self.scale[0] >= self.scale[1]:
            raise ValueError(
                f"scale: found {list(self.scale)}, expected the lowest grade and a higher one"
            )
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """The questions, in order.

        Raises `InputError` for a file that is missing, empty, or not UTF-8, and for a question
        that is asked twice.
        """
        texts = self.texts if self.file is None else _lines(self.file)
        assert texts is not None
        for place, text in enumerate(texts, 1):
            first = texts.index(text) + 1
            if first < place:
                raise InputError(f"questions: number {place} repeats number {first}; take one out")
        return texts


def _lines(path: str) -> tuple[str, ...]:
    where = f"questions.file: {path}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{where}: {error.strerror}; expected a text file, one question a line"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise InputError(f"{where}: empty, expected one question a line")
    return lines


def untouched(bases: Mapping[str, str]) -> dict[str, str]:
    """Return what each distinct base is called in the table of answers, by its folder.

    `bases` is the folder of each arm's base, which may hold `{seed}`.
    """
    folders = list(dict.fromkeys(bases.values()))
    if len(folders) == 1:
        return {folders[0]: UNTOUCHED}
    first = {folder: next(arm for arm in bases if bases[arm] == folder) for folder in folders}
    return {folder: f"{UNTOUCHED}_of_{first[folder]}" for folder in folders}


def refuse_reserved(arms: Iterable[str]) -> None:
    """Raise `InputError` for an arm that is called as an untouched base or the instruct model."""
    for arm in arms:
        if arm in (UNTOUCHED, INSTRUCT) or arm.startswith(f"{UNTOUCHED}_of_"):
            raise InputError(
                f"arms.{arm}: found an arm {arm!r}, which is what the table of answers calls "
                "another model; call the arm otherwise, or leave questions out"
            )
