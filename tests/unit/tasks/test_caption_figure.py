"""The figure of captions: a column an arm, nothing cut, words that are too long broken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from picture_studies import PictureStudy
from PIL import Image

from peft_ablation.errors import InputError
from peft_ablation.figures.for_task import FigureInputs, draw_task_figure
from peft_ablation.tasks.captioning import Settings, example_figure
from peft_ablation.tasks.captioning.caption_figure import draw_captions
from peft_ablation.tasks.captioning.example_figure import Piece, flow

REFERENCES = ["A picture of one colour.", "Noise, and under it a colour that costs $5 or _more_."]
WRITTEN = {"untouched": "", "lora": "A picture of a colour.", "fft_of_a_long_name": "x" * 60}


@pytest.fixture
def given(pictures: PictureStudy, tmp_path: Path) -> FigureInputs:
    """Predictions of three arms for the test pictures, two references each."""
    rows = pl.read_parquet(pictures.split("test")).select("example_id", "group")
    predictions: dict[str, str | Path] = {}
    for arm, text in WRITTEN.items():
        predictions[arm] = tmp_path / f"{arm}.parquet"
        rows.with_columns(
            reference=pl.Series([REFERENCES] * rows.height), hypothesis=pl.lit(text)
        ).write_parquet(predictions[arm])
    return FigureInputs(
        task=Settings(name="captioning").model_dump(mode="json"), arms={arm: {} for arm in WRITTEN},
        predictions=predictions, models={}, bases={}, assets=pictures.assets,
        train=pictures.split("train"), public=True, seed=2,
    )  # fmt: skip


def drawn(given: FigureInputs, folder: Path) -> list[Path]:
    folder.mkdir()
    outputs = [folder / f"examples{end}" for end in (".svg", ".png", ".csv")]
    draw_task_figure("examples", given, outputs)
    return outputs


def test_each_arm_has_its_text_of_the_same_pictures_and_the_same_bytes_again(given, tmp_path):
    one, other = drawn(given, tmp_path / "one"), drawn(given, tmp_path / "other")
    for left, right in zip(one, other, strict=True):
        assert left.read_bytes() == right.read_bytes()
    table = pl.read_csv(one[2])
    assert table.height == 4 * len(WRITTEN)
    for arm, rows in table.group_by("arm"):
        assert rows["example_id"].to_list() == table["example_id"][:4].to_list()
        assert set(rows["hypothesis"].fill_null("")) == {WRITTEN[str(arm[0])]}
    assert set(table["references"]) == {" | ".join(REFERENCES)}
    pixels = np.asarray(Image.open(one[1]).convert("L"))
    assert np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).min() >= 250


def test_each_arm_more_is_a_column_more(given, tmp_path):
    tables = {arm: pl.read_parquet(path)[:2] for arm, path in given.predictions.items()}
    widths = []
    for count in (1, 2, 3):
        some = dict(list(tables.items())[:count])
        draw_captions(np.zeros((2, 8, 8, 3), np.uint8), some, [tmp_path / f"{count}.png"])
        widths.append(Image.open(tmp_path / f"{count}.png").width)
    assert widths[2] - widths[1] == pytest.approx(widths[1] - widths[0], abs=60)
    assert widths[1] - widths[0] > 150


def test_pictures_are_not_shown_unless_the_data_are_public(given, tmp_path):
    with pytest.raises(InputError, match=r"data\.public is false"):
        drawn(replace(given, public=False), tmp_path / "private")


def test_one_reference_each_is_drawn_as_reports_are(given, tmp_path):
    for path in given.predictions.values():
        table = pl.read_parquet(path)
        table.with_columns(pl.col("reference").list.first()).write_parquet(path)
    table = pl.read_csv(drawn(given, tmp_path / "reports")[2])
    assert table.columns == ["example_id", "arm", "reference", "hypothesis"]


def test_a_word_longer_than_a_line_is_broken_and_no_sign_is_lost():
    long = "abcdefghij" * 8
    lines = flow([Piece(f"so {long} end")], 1.0)
    assert "".join(piece.text for line in lines for _, piece in line) == f"so{long}end"
    font = example_figure.FontProperties(family="DejaVu Sans", size=example_figure.TEXT_SIZE)
    for line in lines:
        offset, piece = line[-1]
        size = example_figure.text_to_path.get_text_width_height_descent(piece.text, font, False)
        assert offset + size[0] / 72 <= 1.0 + 1e-6
