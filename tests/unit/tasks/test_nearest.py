"""The nearest training example: against scikit-learn, and by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from picture_studies import PictureStudy, cached, paint
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from tiny_study import TinyStudy, task_of

from peft_ablation.data.images import ImageCache
from peft_ablation.errors import InputError
from peft_ablation.scoring.nearest import write_nearest
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.tasks import open_task
from peft_ablation.tasks._nearest import nearest_pixels, nearest_texts
from peft_ablation.tasks.text_classification import Settings, TextClassification
from peft_ablation.tasks.text_generation import Settings as Written
from peft_ablation.tasks.text_generation import TextGeneration

TEXT_TASK = Settings(name="text_classification").model_dump(mode="json")


def test_the_nearest_pixels_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    known = random.integers(0, 256, (700, 40), dtype=np.uint8)
    wanted = random.integers(0, 256, (600, 40), dtype=np.uint8)
    reference = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(known.astype(float))
    expected = reference.kneighbors(wanted.astype(float), return_distance=False)[:, 0]
    assert (nearest_pixels(known, wanted) == expected).all()


def test_of_equal_pixels_the_first_is_nearest() -> None:
    known = np.array([[9, 9], [5, 0], [5, 0], [0, 5]], np.uint8)
    assert nearest_pixels(known, np.array([[5, 0], [6, 6], [0, 4]], np.uint8)).tolist() == [1, 0, 3]


def test_the_nearest_texts_are_those_of_the_largest_cosine() -> None:
    random = np.random.default_rng(1)
    words = [f"w{place}" for place in range(60)]
    texts = [" ".join(random.choice(words, 6)) for _ in range(400)]
    known, wanted = texts[:300], texts[300:]
    vectors = TfidfVectorizer(token_pattern=r"\w+").fit(known)
    cosines = cosine_similarity(vectors.transform(wanted), vectors.transform(known))
    found = nearest_texts([(text,) for text in known], [(text,) for text in wanted])
    chosen = cosines[np.arange(100), found]
    assert chosen == pytest.approx(cosines.max(axis=1))


def test_words_of_a_second_text_are_other_words() -> None:
    known = [("cat", "dog"), ("dog", "cat"), ("Bird", "fish")]
    assert nearest_texts(known, [("dog", "cat"), ("BIRD.", "fox"), ("ox", "emu")]).tolist() == [
        1, 2, 0,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> PictureStudy:
    root = tmp_path_factory.mktemp("near")
    return cached(paint(root / "data", lambda split, _: 6), root / "study")


def test_a_picture_is_given_the_class_of_the_picture_it_repeats(pictures: PictureStudy) -> None:
    """Of test rows whose images are training images, each is found again."""
    task = pictures.task()
    rows = task.train.sample(fraction=1, seed=1, shuffle=True)
    found = task.look_up(rows, pictures.assets)
    assert found.columns == ["example_id", "predicted"]
    assert found["example_id"].equals(rows["example_id"])
    assert found["predicted"].to_list() == rows["label"].to_list()


def test_rows_without_an_image_are_neither_asked_nor_given(
    pictures: PictureStudy, tmp_path: Path
) -> None:
    index = pl.read_parquet(pictures.folder / "index.parquet")
    task = pictures.task()
    gone = task.train["example_id"].to_list()[:3]
    index.filter(~pl.col("example_id").is_in(gone)).write_parquet(tmp_path / "index.parquet")
    (tmp_path / "shard-0.npy").symlink_to(pictures.folder / "shard-0.npy")
    found = task.look_up(task.train, {"images": tmp_path / "index.parquet"})
    assert found["example_id"].to_list() == task.train["example_id"].to_list()[3:]
    assert found["predicted"].to_list() == task.train["label"].to_list()[3:]


def test_a_report_is_that_of_the_training_image(tiny_study: TinyStudy) -> None:
    task = open_task(task_of(), tiny_study.split("train"))
    found = task.look_up(task.train.reverse(), {"images": tiny_study.index})
    assert found["hypothesis"].to_list() == task.train["report"].reverse().to_list()


def test_a_score_is_given_as_a_class_is(tmp_path: Path) -> None:
    train = pl.DataFrame({"text": ["a cat", "a dog"], "score": [1.5, 4.0]})
    task = TextClassification({**TEXT_TASK, "target": "score"}, train)
    test = pl.DataFrame({"example_id": ["x", "y", "z"], "text": ["dog", "cat", "dogs dog"]})
    assert task.look_up(test, {})["predicted"].to_list() == [4.0, 1.5, 4.0]


@pytest.mark.parametrize("several", [False, True])
def test_a_text_is_the_first_of_the_nearest_prompt(several: bool) -> None:
    texts = [["It sat.", "A cat sat."], ["It ran.", "A dog ran."]]
    train = pl.DataFrame(
        {"prompt": ["cat", "dog"], "reference": texts if several else [row[0] for row in texts]}
    )
    settings = Written(name="text_generation").model_dump(mode="json")
    test = pl.DataFrame({"example_id": ["x", "y"], "prompt": ["the dog", "a Cat"]})
    found = TextGeneration(settings, train).look_up(test, {})
    assert found.rows() == [("x", "It ran."), ("y", "It sat.")]


def scored(folder: Path, test: pl.DataFrame) -> dict[str, float]:
    """Score predictions in another order than the test split's."""
    train = pl.DataFrame({"text": ["a cat", "a dog", "a cow"], "label": ["yes", "no", "no"]})
    train.write_parquet(folder / "train.parquet")
    test.write_parquet(folder / "test.parquet")
    write_nearest(
        task=TEXT_TASK, train=folder / "train.parquet", test=folder / "test.parquet", assets={},
        output=folder / "nearest.parquet",
    )  # fmt: skip
    pl.DataFrame(
        {
            "example_id": ["d", "c", "b", "a"], "group": ["d", "c", "b", "a"],
            "label": ["no", "no", "yes", "yes"], "predicted": ["yes"] * 4,
            "probability": [0.5] * 4, "nll": [1.0] * 4,
        }
    ).write_parquet(folder / "p.parquet")  # fmt: skip
    score_predictions(
        folder / "p.parquet", task=TEXT_TASK, train=folder / "train.parquet",
        nearest=folder / "nearest.parquet", bootstrap_samples=10, confidence=0.9, seed=1,
        output=folder / "s.json", sums=folder / "sums.parquet",
    )  # fmt: skip
    import json

    found: dict[str, float] = json.loads((folder / "s.json").read_text())["baselines"]["nearest"]
    return found


TEST = pl.DataFrame({"example_id": list("abcd"), "text": ["my cat", "the dog", "cow", "the cow"]})


def test_the_baseline_is_scored_row_by_row(tmp_path: Path) -> None:
    found = scored(tmp_path, TEST)
    # a: yes as it is; b: no, but it is yes; c and d: no as they are.
    assert found["accuracy"] == 0.75
    assert "test_loss" not in found
    assert found["title"] == "answer of the nearest training text"  # type: ignore[comparison-overlap]


def test_a_baseline_of_another_test_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nearest.parquet: lacks 1 of 4 examples of"):
        scored(tmp_path, TEST.head(3))


def test_a_mean_image_is_that_of_numpy(pictures: PictureStudy) -> None:
    cache = ImageCache(pictures.folder / "index.parquet")
    places = np.array([0, 3, 3, 7])
    expected = np.rint(cache.pixels(places).astype(np.float64).mean(axis=0))
    assert (cache.mean(places) == expected).all()
    many = np.arange(len(cache)).repeat(40)
    assert (cache.mean(many) == cache.mean(np.arange(len(cache)))).all()
