"""What a task gives that only looks up the nearest training example: copying, without a model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from peft_ablation.data.images import ImageCache
from peft_ablation.tasks._images import NEAR

_ROWS: Final = 256
_CELLS: Final = 20_000_000
_WORD: Final = re.compile(r"\w+")


def by_image(
    index: str | Path, train: pl.DataFrame, test: pl.DataFrame, told: Mapping[str, str]
) -> pl.DataFrame:
    """Return `example_id` of test rows, and columns of the training row with the nearest image.

    `told`: name of each column → that of `train`. Rows whose image was dropped are left out.
    """
    cache = ImageCache(index)

    def reduced(table: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.uint8]]:
        places = cache.position(table["example_id"].to_list())
        small = [_small(cache.pixels([place])[0]) for place in places[places >= 0]]
        return table.filter(pl.Series(places >= 0)), np.stack(small)

    (known, pixels), (asked, wanted) = reduced(train), reduced(test)
    return columns_of(known, nearest_pixels(pixels, wanted), asked, told)


def columns_of(
    known: pl.DataFrame, places: NDArray[np.int64], asked: pl.DataFrame, told: Mapping[str, str]
) -> pl.DataFrame:
    """Return `example_id` of `asked`, and columns of the rows of `known` at these places."""
    found = known.select(pl.col(of).alias(name) for name, of in told.items())[places]
    return asked.select("example_id").hstack(found)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = Image.fromarray(pixels).convert("L")
    side = min(NEAR, grey.width)
    return np.asarray(grey.resize((side, side), Image.Resampling.BOX)).reshape(-1)


def nearest_pixels(known: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each row of `wanted` (M, D) the row of `known` (N, D) at the least distance.

    Distance is Euclidean; of equal ones the first. All sums are whole numbers below 2⁵³, so that
    nothing is rounded and any order of adding gives the same.
    """
    points = known.astype(np.float64)
    squares = (points**2).sum(axis=1)
    found = [
        (squares - 2 * (part.astype(np.float64) @ points.T)).argmin(axis=1)
        for part in _parts(wanted)
    ]
    return np.concatenate(found).astype(np.int64)


def _parts(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def nearest_texts(
    known: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]
) -> NDArray[np.int64]:
    """Return for each of `wanted` the place of the text in `known` that is most like it.

    An example is its text or two. Likeness is the cosine of TF-IDF weights of words in lower case
    (scikit-learn's, smoothed), those of a second text apart; of equal ones the first, and where no
    word is shared with any, the first of all.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer=_words)
    points = vectors.fit_transform(known).T.tocsr()
    asked = vectors.transform(wanted)
    rows = max(1, _CELLS // len(known))
    found = [
        (asked[start : start + rows] @ points).toarray().argmax(axis=1)
        for start in range(0, len(wanted), rows)
    ]
    return np.concatenate(found).astype(np.int64)


def _words(texts: Sequence[str]) -> list[tuple[int, str]]:
    return [
        (place, word) for place, text in enumerate(texts) for word in _WORD.findall(text.lower())
    ]
