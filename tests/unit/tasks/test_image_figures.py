"""Figures of image classification: what they show, that nothing is cut, the same bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from picture_studies import PictureStudy
from PIL import Image

from peft_ablation.errors import InputError
from peft_ablation.figures.for_task import FigureInputs, draw_task_figure
from peft_ablation.methods import open_method
from peft_ablation.tasks.image_classification import attention_figure, pictures_figure
from peft_ablation.tasks.image_classification.attention_figure import attention_to_patches
from peft_ablation.tasks.image_classification.confusion_figure import draw_confusion
from peft_ablation.tasks.image_classification.model import load_model, normalize_of

torch.set_num_threads(1)
ARMS = {
    "fft": {"method": "full", "learning_rate": 1e-3},
    "probe": {"method": "head_only", "learning_rate": 1e-3},
    "zero": {"method": "none"},
}


def predictions(path: Path, study: PictureStudy, wrong: Sequence[int]) -> Path:
    """Right for each test image but those at `wrong`, which are taken for blue."""
    table = pl.read_parquet(study.split("test"))
    said = ["blue" if row in wrong else label for row, label in enumerate(table["label"].to_list())]
    table.select("example_id", "group", "label").with_columns(
        predicted=pl.Series(said), probability=pl.Series([0.75] * table.height)
    ).write_parquet(path)
    return path


def inputs(
    folder: Path, study: PictureStudy, bases: dict[str, Path], *, public: bool = True
) -> FigureInputs:
    """Untrained models of each arm in `bases`, and predictions with two errors."""
    task = study.task()
    models = {}
    for arm, base in bases.items():
        method = open_method(ARMS[arm])
        models[arm] = folder / arm
        models[arm].mkdir()
        if method.trains:
            torch.manual_seed(1)
            model = method.apply(
                task.load_model(base), seed=1, heads=task.heads, steps=1, batches=list
            )
            method.save(model, models[arm])
    return FigureInputs(
        task=task.settings, arms={arm: ARMS[arm] for arm in bases},
        predictions={arm: predictions(folder / f"{arm}.parquet", study, (7, 13)) for arm in bases},
        models=models, bases=bases, assets=study.assets, train=study.split("train"),
        public=public, seed=2,
    )  # fmt: skip


def drawn(name: str, given: FigureInputs, folder: Path) -> list[Path]:
    folder.mkdir()
    outputs = [folder / f"figure{end}" for end in (".svg", ".png", ".csv")]
    draw_task_figure(name, given, outputs)
    return outputs


def uncut(png: Path) -> bool:
    pixels = np.asarray(Image.open(png).convert("L"))
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).min() >= 250


@pytest.mark.parametrize("name", ["confusion", "pictures", "attention"])
def test_the_same_runs_give_the_same_bytes_and_nothing_is_cut(name, tmp_path, pictures, base_of):
    given = inputs(tmp_path, pictures, {"fft": base_of("vit"), "probe": base_of("vit")})
    one, other = (drawn(name, given, tmp_path / copy) for copy in ("one", "other"))
    assert uncut(one[1])
    for left, right in zip(one, other, strict=True):
        assert left.read_bytes() == right.read_bytes()


@pytest.mark.parametrize("name", ["pictures", "attention"])
def test_images_are_not_shown_unless_the_data_are_public(name, tmp_path, pictures, base_of):
    given = inputs(tmp_path, pictures, {"zero": base_of("vit")}, public=False)
    with pytest.raises(InputError, match=r"data\.public is false"):
        drawn(name, given, tmp_path / "figure")
    assert drawn("confusion", given, tmp_path / "other")[2].is_file()


def test_confusion_counts_what_is_taken_for_what(tmp_path, pictures, base_of):
    # Rows 6 to 11 are green, 12 to 17 red; one of each is taken for blue.
    given = inputs(tmp_path, pictures, {"zero": base_of("vit")})
    table = pl.read_csv(drawn("confusion", given, tmp_path / "figure")[2])
    found = {(true, said): n for _, true, said, n, _ in table.rows() if n}
    assert found == {
        ("blue", "blue"): 6, ("green", "green"): 5, ("green", "blue"): 1, ("red", "red"): 5,
        ("red", "blue"): 1,
    }  # fmt: skip
    share = table.filter((pl.col("true") == "red") & (pl.col("predicted") == "blue"))
    assert share["share_of_true"].to_list() == [pytest.approx(1 / 6)]


@pytest.mark.parametrize(("count", "arms"), [(2, 1), (10, 5), (30, 2), (120, 3)])
def test_confusion_of_few_and_many_classes_fits_its_page(count, arms, tmp_path):
    classes = [f"class number {place}" for place in range(count)]
    matrices = {f"arm_{n}": np.eye(count, dtype=np.int64) * 3 for n in range(arms)}
    draw_confusion(matrices, classes, [tmp_path / "a.png"])
    assert uncut(tmp_path / "a.png")
    assert max(Image.open(tmp_path / "a.png").size) < 3500


def test_a_class_that_looks_like_a_formula_is_drawn_as_it_is(tmp_path):
    draw_confusion({"fft": np.eye(2, dtype=np.int64)}, ["$a_{", "b$"], [tmp_path / "a.png"])
    assert (tmp_path / "a.png").stat().st_size > 0


def test_pictures_mark_errors_alone_and_are_drawn_by_the_seed(
    tmp_path, pictures, base_of, monkeypatch
):
    figures: list[Any] = []
    monkeypatch.setattr(pictures_figure, "write_figure", lambda *given: figures.append(given[:2]))
    given = inputs(tmp_path, pictures, {"fft": base_of("vit"), "zero": base_of("vit")})
    draw_task_figure("pictures", given, [])
    figure, table = figures[0]
    assert table.height == 16
    assert table["example_id"].n_unique() == 8
    page = figure.axes[0]
    wrong = table.filter(pl.col("label") != pl.col("predicted")).height
    assert 0 < wrong < 16
    texts = [text.get_text() for text in page.texts]
    assert sum(text.startswith("✗ ") for text in texts) == wrong
    assert sum(text == "fft" for text in texts) == 8
    # Each image is the cached one of the example beside it.
    from peft_ablation.data.images import ImageCache

    cache = ImageCache(pictures.assets["images"])
    ids = table.filter(pl.col("arm") == "fft")["example_id"].to_list()
    shown = np.stack([image.get_array() for image in page.images])
    assert (shown == cache.pixels(cache.position(ids))).all()


# -- attention -------------------------------------------------------------------------------------


def by_hand(model: Any, image: torch.Tensor) -> torch.Tensor:
    """Attention of the class token in the last layer of a ViT, from its queries and keys."""
    hidden = model(pixel_values=image, output_hidden_states=True).hidden_states[-2]
    layer = model.vit.layers[-1]
    normed = layer.layernorm_before(hidden)
    heads = model.config.num_attention_heads

    def split(projection: Any) -> torch.Tensor:
        return projection(normed).unflatten(-1, (heads, -1)).transpose(1, 2)

    query, key = split(layer.attention.q_proj), split(layer.attention.k_proj)
    weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1)
    return weights.mean(1)[:, 0, 1:]


def test_attention_is_that_of_the_class_token_in_the_last_layer(base_of):
    base = base_of("vit")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    model = load_model(base).eval()
    with torch.no_grad():
        # Sharper than at birth, where all patches are alike.
        for projection in (layer.attention.q_proj for layer in model.vit.layers):
            projection.weight.mul_(100)
        expected = by_hand(model, normalize_of(base)(torch.from_numpy(pixels)))
    found = attention_to_patches(model, base, pixels)
    assert found is not None
    assert found.shape == (3, 4, 4)
    assert torch.allclose(torch.from_numpy(found), 16 * expected.view(3, 4, 4), atol=1e-4)
    assert found.std() > 0.1


@pytest.mark.parametrize("kind", ["deit", "dinov2", "clip"])
def test_other_transformers_with_a_class_token_have_attention(base_of, kind):
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    found = attention_to_patches(load_model(base_of(kind)), base_of(kind), pixels)
    assert found is not None
    assert found.shape == (2, 4, 4)
    assert (found.sum((1, 2)) < 16).all()


@pytest.mark.parametrize("kind", ["resnet", "swin", "convnext"])
def test_models_without_a_class_token_have_none(base_of, kind):
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    assert attention_to_patches(load_model(base_of(kind)), base_of(kind), pixels) is None


def test_a_probe_attends_as_its_base_and_an_arm_without_training_is_its_base(
    tmp_path, pictures, base_of
):
    vit = base_of("vit")
    given = inputs(tmp_path, pictures, {"probe": vit, "zero": vit})
    table = pl.read_csv(drawn("attention", given, tmp_path / "figure")[2])
    assert table["model"].unique(maintain_order=True).to_list() == ["base", "probe"]
    maps = {name: part["attention"].to_list() for (name,), part in table.group_by("model")}
    assert maps["probe"] == maps["base"]
    assert len(maps["base"]) == attention_figure.PICTURES * 16


def test_a_study_without_attention_says_so(tmp_path, pictures, base_of):
    given = inputs(tmp_path, pictures, {"probe": base_of("resnet")})
    svg, png, csv = drawn("attention", given, tmp_path / "figure")
    assert uncut(png)
    assert pl.read_csv(csv).is_empty()
    assert svg.stat().st_size > 1000
