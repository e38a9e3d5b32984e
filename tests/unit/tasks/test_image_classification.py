"""Image classification: head, pixels, loss, predictions, features, augmentation, classes."""

import json
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import torch
from accelerate import Accelerator
from picture_studies import COLOURS, CONFIGS, SIZE, cached, make_base, paint
from pydantic import ValidationError

from peft_ablation.errors import InputError
from peft_ablation.tasks import task_class
from peft_ablation.tasks.image_classification import ImageClassification, Settings
from peft_ablation.tasks.image_classification.augment import augmented
from peft_ablation.tasks.image_classification.model import (
    PooledFeatures,
    head_of,
    load_model,
    normalize_of,
)
from peft_ablation.training.evaluation import validate
from peft_ablation.training.processes import Processes

torch.set_num_threads(1)
CPU = torch.device("cpu")
CLASSES = ("blue", "green", "red")
KINDS = sorted(CONFIGS)


def state_of(folder, seed, classes=CLASSES):
    torch.manual_seed(seed)
    state = load_model(folder, classes).state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def differing(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


# -- the head --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_comes_from_the_seed_alone_and_the_base_stays(base_of, kind):
    folder = base_of(kind)
    first, second, other = (state_of(folder, seed) for seed in (1, 1, 2))
    assert differing(first, second) == set()
    drawn = differing(first, other)
    assert drawn
    assert all(name.startswith("classifier.") for name in drawn)
    plain = load_model(folder).state_dict()
    base = {name: tensor for name, tensor in plain.items() if not name.startswith("classifier.")}
    assert base
    assert differing(base, first) == set()


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b", "c", "d", "e")])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_head_of_other_classes_is_not_kept_even_where_their_number_is(tmp_path, kind, labels):
    folder = make_base(tmp_path / kind, kind, labels)
    old = load_model(folder)
    assert [old.config.id2label[place] for place in range(len(labels))] == list(labels)
    new = load_model(folder, CLASSES)
    assert [new.config.id2label[place] for place in range(3)] == list(CLASSES)
    assert new.config.label2id == {"blue": 0, "green": 1, "red": 2}
    weights = [next(p for p in head_of(m).parameters() if p.dim() == 2) for m in (old, new)]
    assert weights[1].shape[0] == 3
    assert not torch.equal(weights[0][:3], weights[1])
    assert new(pixel_values=torch.zeros(1, 3, SIZE, SIZE)).logits.shape == (1, 3)
    first, second, other = (state_of(folder, seed) for seed in (1, 1, 2))
    assert differing(first, second) == set()
    assert {name.partition(".")[0] for name in differing(first, other)} == {"classifier"}
    plain = {n: t for n, t in old.state_dict().items() if not n.startswith("classifier.")}
    assert differing(plain, first) == set()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_head_of_the_same_classes_is_kept_in_their_order(tmp_path, kind):
    pixels = torch.rand(4, 3, SIZE, SIZE)
    folder = make_base(tmp_path / kind, kind, CLASSES)
    same = load_model(folder, CLASSES).eval()
    assert torch.equal(same(pixel_values=pixels).logits, load_model(folder).eval()(pixels).logits)
    turned = load_model(folder, ("red", "blue", "green")).eval()
    assert [turned.config.id2label[place] for place in range(3)] == ["red", "blue", "green"]
    expected = same(pixel_values=pixels).logits[:, [2, 0, 1]]
    assert torch.allclose(turned(pixel_values=pixels).logits, expected, atol=1e-6)


def test_a_saved_model_is_loaded_as_it_was(tmp_path, base_of):
    model = load_model(base_of("vit"), CLASSES)
    model.save_pretrained(tmp_path)
    torch.manual_seed(9)
    assert differing(model.state_dict(), load_model(tmp_path, CLASSES).state_dict()) == set()


def test_a_base_that_lacks_weights_is_refused(tmp_path):
    folder = make_base(tmp_path / "vit", "vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"weights are missing .*'vit\.layers\.2\."):
        load_model(folder, CLASSES)
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(InputError, match="another shape"):
        load_model(folder, CLASSES)


def test_loading_says_nothing(base_of):
    line = (
        "from peft_ablation.tasks.image_classification.model import load_model;"
        f"load_model({str(base_of('bare_vit'))!r}, ('a', 'b', 'c'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_known_by_its_model_type(base_of, kind):
    model = load_model(base_of(kind), CLASSES)
    assert ImageClassification.architectures[model.config.model_type] == type(model).__name__


def test_the_classes_are_those_of_transformers():
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as NAMES,
    )

    for kind, name in ImageClassification.architectures.items():
        assert name in ([NAMES[kind]] if isinstance(NAMES[kind], str) else NAMES[kind])


# -- pixels ----------------------------------------------------------------------------------------


def test_pixels_are_normalised_as_the_base_says_in_colour_and_grey(tmp_path):
    pixels = torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8)
    found = normalize_of(tmp_path)(pixels)
    assert found.shape == (1, 3, 1, 1)
    by_hand = [(0 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert found.flatten().tolist() == pytest.approx(by_hand, abs=1e-6)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]})
    )
    grey = normalize_of(tmp_path)(torch.full((1, 2, 2), 51, dtype=torch.uint8))
    assert grey.shape == (1, 3, 2, 2)
    assert grey[0, :, 0, 0].tolist() == pytest.approx([-0.6, -0.8, -0.5])


def test_colours_keep_their_place(pictures, base_of):
    task = pictures.task()
    examples = task.examples(pictures.split("test"), pictures.assets, base_of("vit"))
    for place, label in enumerate(examples.labels):
        mean = examples.batch(np.array([place]))["image"].float().mean((0, 1, 2))
        assert mean.argmax() == int(np.argmax(COLOURS[label]))


# -- loss and predictions --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_loss_is_the_sum_of_what_transformers_means(pictures, base_of, kind):
    base, task = base_of(kind), pictures.task()
    model = task.load_model(base).eval()
    examples = task.examples(pictures.split("train"), pictures.assets, base)
    indices = np.array([0, 9, 17, 3])
    batch = examples.batch(indices)
    assert batch["label"].tolist() == [CLASSES.index(examples.labels[i]) for i in indices]
    theirs = model(pixel_values=normalize_of(base)(batch["image"]), labels=batch["label"]).loss
    ours = task.loss_module(model, base)(**batch)
    assert examples.weight(indices) == 4
    assert ours.item() == pytest.approx(4 * theirs.item(), rel=1e-6)


def test_predictions_are_the_softmax_of_the_logits(pictures, base_of):
    base, task = base_of("resnet"), pictures.task()
    model = task.load_model(base)
    examples = task.examples(pictures.split("test"), pictures.assets, base)
    predictor = task.predictor(model, base, CPU)
    indices = np.arange(len(examples))[::-1].copy()
    with torch.no_grad():
        found = predictor(examples, indices)
        image = normalize_of(base)(examples.images[examples.positions[indices]])
        logits = model(pixel_values=image).logits.numpy().astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exponents / exponents.sum(axis=1, keepdims=True)
    assert found["predicted"] == [CLASSES[place] for place in softmax.argmax(axis=1)]
    assert found["probability"] == pytest.approx(softmax.max(axis=1), abs=1e-6)
    true = [CLASSES.index(label) for label in np.array(examples.labels)[indices]]
    assert found["nll"] == pytest.approx(-np.log(softmax[range(len(true)), true]), abs=1e-5)
    assert predictor.truth(examples) == {"label": examples.labels}
    assert set(found) | set(predictor.truth(examples)) >= {
        name for metric in task.metrics for name in metric.needs
    }


@pytest.mark.parametrize("batch", [4, 100])
def test_validation_counts_what_prediction_gets_right(pictures, base_of, batch):
    base, task = base_of("vit"), pictures.task()
    torch.manual_seed(4)
    model = task.load_model(base)
    examples = task.examples(pictures.split("val"), pictures.assets, base)
    processes = Processes(Accelerator(cpu=True))
    found = validate(processes, task.loss_module(model, base), examples, batch)
    with torch.no_grad():
        told = task.predictor(model, base, CPU)(examples, np.arange(len(examples)))
    right = [p == label for p, label in zip(told["predicted"], examples.labels, strict=True)]
    assert 0 < sum(right) < len(right)
    assert found["accuracy"] == pytest.approx(sum(right) / 12)
    assert found["loss"] == pytest.approx(sum(told["nll"]) / 12, rel=1e-5)


def trained(task, pictures, base, steps, **features):
    """Train by Adam on whole batches, as the engine does: seed, augment, loss over weight."""
    assets = pictures.assets | features
    examples = task.examples(pictures.split("train"), assets, base)
    torch.manual_seed(3)
    model = task.load_model(base).train()
    module = task.loss_module(model, base)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    everyone = np.arange(len(examples))
    for step in range(steps):
        torch.manual_seed(step)
        loss = module(**task.augment(examples.batch(everyone))) / examples.weight(everyone)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def accuracy(task, pictures, base, model, seed=None):
    examples = task.examples(pictures.split("test"), pictures.assets, base)
    rows = examples if seed is None else task.shuffled(examples, seed)
    predictor = task.predictor(model, base, CPU)
    with torch.no_grad():
        found = predictor(rows, np.arange(len(rows)))
    return float(np.mean(np.array(found["predicted"]) == np.array(predictor.truth(rows)["label"])))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_model_learns_colours_and_knows_nothing_without_its_images(pictures, base_of, kind):
    base, task = base_of(kind), pictures.task(augment={"flip": True, "shift": 2})
    model = trained(task, pictures, base, 25)
    assert accuracy(task, pictures, base, model) == 1
    assert accuracy(task, pictures, base, model, seed=1) < 0.7


# -- features --------------------------------------------------------------------------------------


def features_of(base, pictures, folder):
    from peft_ablation.data.images import ImageCache

    frozen = PooledFeatures(base, CPU)
    cache = ImageCache(pictures.assets["images"])
    with torch.no_grad():
        found = frozen(cache.pixels(np.arange(len(cache)))).numpy()
    assert found.dtype == frozen.dtype
    np.save(folder / "features.npy", found)
    return {"features": folder / "features.npy"}


@pytest.mark.parametrize("kind", KINDS)
def test_features_give_the_loss_and_the_gradients_of_the_head_that_pixels_give(
    pictures, base_of, tmp_path, kind
):
    base, task = base_of(kind), pictures.task()
    model = task.load_model(base).eval()
    module = task.loss_module(model, base)
    assets = pictures.assets | features_of(base, pictures, tmp_path)
    found = []
    for given in (pictures.assets, assets):
        examples = task.examples(pictures.split("test"), given, base)
        model.zero_grad()
        loss = module(**examples.batch(np.arange(len(examples))))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in head_of(model).parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_features_give_the_predictions_that_pixels_give(pictures, base_of, tmp_path):
    base, task = base_of("vit"), pictures.task()
    model = task.load_model(base)
    assets = pictures.assets | features_of(base, pictures, tmp_path)
    predictor = task.predictor(model, base, CPU)
    found = []
    for given in (pictures.assets, assets):
        examples = task.examples(pictures.split("test"), given, base)
        with torch.no_grad():
            found.append(predictor(examples, np.arange(len(examples))))
    assert found[0]["predicted"] == found[1]["predicted"]
    assert found[0]["nll"] == pytest.approx(found[1]["nll"], abs=1e-6)


def test_a_step_of_the_head_on_features_is_fifty_times_a_step_on_pixels(tmp_path):
    # Half the width and a third of the layers of ViT-tiny, whose ratio is larger.
    base = make_base(tmp_path / "vit", "vit")
    config = json.loads((base / "config.json").read_text())
    wide = {"hidden_size": 96, "num_hidden_layers": 4, "intermediate_size": 384, "image_size": 96}
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(**{**config, **wide})).save_pretrained(base)
    model = load_model(base, CLASSES).eval().requires_grad_(False)
    head_of(model).requires_grad_(True)
    module = ImageClassification(
        Settings(name="image_classification").model_dump(mode="json"), pl.DataFrame()
    ).loss_module(model, base)
    label = torch.zeros(16, dtype=torch.int64)

    def seconds(image):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            module(image, label).backward()
            times.append(time.perf_counter() - start)
        return min(times)

    pixels = torch.zeros(16, 96, 96, 3, dtype=torch.uint8)
    assert seconds(pixels) > 50 * seconds(torch.zeros(16, 96))


# -- examples --------------------------------------------------------------------------------------


def test_examples_whose_image_was_dropped_are_left_out(tmp_path, base_of):
    root = paint(tmp_path / "source", lambda split, name: 2)
    (root / "test" / "red" / "1.png").write_bytes(b"no image")
    study = cached(root, tmp_path / "cache")
    examples = study.task().examples(study.split("test"), study.assets, base_of("vit"))
    assert examples.ids == [f"test/{name}/{n}" for name in CLASSES for n in (0, 1)][:-1]
    assert len(examples) == len(examples.labels) == 5
    assert examples.lengths.tolist() == [1] * 5


def test_shuffled_examples_keep_labels_and_none_keeps_its_image(pictures, base_of):
    task = pictures.task()
    examples = task.examples(pictures.split("test"), pictures.assets, base_of("vit"))
    changed = task.shuffled(examples, 4)
    assert changed.labels == examples.labels
    assert changed.ids == examples.ids
    assert (changed.positions != examples.positions).all()
    assert sorted(changed.positions) == sorted(examples.positions)
    assert (task.shuffled(examples, 4).positions == changed.positions).all()
    assert (task.shuffled(examples, 5).positions != changed.positions).any()


def test_a_class_that_training_has_not_is_refused_by_its_example(pictures, base_of, tmp_path):
    table = pl.read_parquet(pictures.split("test"))
    table = table.with_columns(label=pl.col("label").replace("red", "rad"))
    table.write_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"'test/red/0' is of class 'rad'.*did you mean 'red'"):
        pictures.task().examples(tmp_path / "test.parquet", pictures.assets, base_of("vit"))


def test_images_of_another_size_than_the_base_takes_are_refused(pictures, tmp_path):
    base = make_base(tmp_path / "vit", "vit")
    config = json.loads((base / "config.json").read_text()) | {"image_size": 48}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"is 32, but .* of 48 x 48 pixels; set images.size: 48"):
        pictures.task().examples(pictures.split("test"), pictures.assets, base)
    (base / "config.json").write_text(json.dumps(config | {"num_channels": 1}))
    with pytest.raises(InputError, match="1 channels, expected 3"):
        pictures.task().examples(pictures.split("test"), pictures.assets, base)


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_refuses_another_size_exactly_where_its_forward_does(
    pictures, base_of, kind, tmp_path
):
    base, task = base_of(kind), pictures.task()
    model = task.load_model(base)
    larger = torch.zeros(1, 3, SIZE + 16, SIZE + 16)
    try:
        model(pixel_values=larger)
        takes_any = True
    except (ValueError, RuntimeError):
        takes_any = False
    root = paint(tmp_path / "source", lambda split, name: 1)
    study = cached(root, tmp_path / "cache", size=SIZE + 16)
    try:
        task.examples(study.split("test"), study.assets, base)
        accepted = True
    except InputError:
        accepted = False
    assert accepted == takes_any


# -- augmentation ----------------------------------------------------------------------------------


def numbered(rows: int, side: int = 9, colour: bool = True) -> torch.Tensor:
    """Pictures whose pixels tell their row and column, none of them black."""
    down, right = np.mgrid[0:side, 0:side] + 1
    planes = [down * 10, right * 10, np.full_like(down, 7)]
    one = np.stack(planes, axis=-1) if colour else down * 15 + right
    return torch.from_numpy(np.stack([one] * rows).astype(np.uint8))


def test_nothing_changes_without_settings_and_features_never():
    pixels = numbered(3)
    assert augmented(pixels) is pixels
    features = torch.rand(3, 5)
    assert augmented(features, flip=True, shift=3) is features


def test_about_half_of_the_images_are_mirrored_each_exactly():
    pixels = numbered(400)
    torch.manual_seed(0)
    changed = augmented(pixels, flip=True)
    mirrored = [torch.equal(image, pixels[0].flip(1)) for image in changed]
    kept = [torch.equal(image, pixels[0]) for image in changed]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 160 < sum(mirrored) < 240


@pytest.mark.parametrize("colour", [True, False])
def test_shift_moves_each_image_by_its_own_distance_and_repeats_the_border(colour):
    pixels, most = numbered(500, colour=colour), 2
    torch.manual_seed(0)
    changed = augmented(pixels, shift=most)
    flat = pixels[:1].float() if colour else pixels[:1, ..., None].float()
    padded = torch.nn.functional.pad(flat.permute(0, 3, 1, 2), (most,) * 4, mode="replicate")
    padded = padded.permute(0, 2, 3, 1)[0].to(torch.uint8)
    windows = {
        (top, left): padded[top : top + 9, left : left + 9] for top in range(5) for left in range(5)
    }
    windows = {key: w if colour else w[..., 0] for key, w in windows.items()}
    seen = dict.fromkeys(windows, 0)
    for image in changed:
        (found,) = [key for key, window in windows.items() if torch.equal(image, window)]
        seen[found] += 1
    # 25 moves, 20 times each on average.
    assert min(seen.values()) >= 8
    assert max(seen.values()) <= 36


def test_crop_brings_in_black_where_shift_repeats_the_border():
    pixels = numbered(50)
    torch.manual_seed(1)
    cropped = augmented(pixels, crop=3)
    torch.manual_seed(1)
    shifted = augmented(pixels, shift=3)
    black = (cropped == 0).all(-1)
    assert black.any()
    assert torch.equal(cropped[~black], shifted[~black])
    moved = (shifted[:, 4, 4, :2].long() // 10 - 5).abs()
    # A move by d rows leaves d rows black.
    assert torch.equal(black.all(2).sum(1), moved[:, 0])
    assert torch.equal(black.all(1).sum(1), moved[:, 1])


def test_micro_batches_draw_what_the_whole_batch_draws():
    pixels = torch.randint(1, 256, (64, 9, 9, 3), dtype=torch.uint8)
    torch.manual_seed(2)
    whole = augmented(pixels, flip=True, crop=2)
    for size in (1, 5, 16, 40):
        torch.manual_seed(2)
        parts = [augmented(part, flip=True, crop=2) for part in pixels.split(size)]
        assert torch.equal(torch.cat(parts), whole)


def test_images_of_a_batch_are_changed_each_for_itself():
    torch.manual_seed(3)
    changed = augmented(numbered(30), flip=True, shift=3)
    assert len({image.numpy().tobytes() for image in changed}) > 20


def test_the_task_augments_images_alone_and_says_so(pictures):
    off, on = pictures.task(), pictures.task(augment={"flip": True})
    assert not ImageClassification.changes_inputs(off.settings)
    assert ImageClassification.changes_inputs(on.settings)
    for setting in ({"shift": 1}, {"crop": 4}):
        assert ImageClassification.changes_inputs(pictures.task(augment=setting).settings)
    batch = {"image": numbered(40), "label": torch.arange(40)}
    torch.manual_seed(0)
    changed = on.augment(batch)
    assert torch.equal(changed["label"], batch["label"])
    assert not torch.equal(changed["image"], batch["image"])


# -- classes, baselines, words ---------------------------------------------------------------------


def task_of(labels, **settings) -> ImageClassification:
    chosen = Settings(name="image_classification", **settings).model_dump(mode="json")
    return ImageClassification(chosen, pl.DataFrame({"label": labels}))


def test_classes_are_those_of_training_sorted_or_as_listed():
    assert task_of(["b", "a", "b"]).classes == ("a", "b")
    assert task_of(["b", "a"], classes=["b", "a"]).classes == ("b", "a")


@pytest.mark.parametrize(
    ("labels", "settings", "told"),
    [
        (["a", "a"], {}, "all training images are of the class 'a'"),
        (["cat", "dog", "elk"], {"classes": ["cat", "dog"]}, "has the class 'elk'"),
        (["cat", "dog"], {"classes": ["cat", "dgo"]}, "has the class 'dog'.*did you mean 'dgo'"),
        (["cat", "dog"], {"classes": ["cat", "dog", "elk"]}, "no training image .* 'elk'"),
        (["cat", None, "dog"], {}, "1 of 3 training images have no label"),
    ],
)
def test_classes_that_do_not_fit_the_training_split_are_refused(labels, settings, told):
    with pytest.raises(InputError, match=told) as caught:
        _ = task_of(labels, **settings).classes
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"classes": ["a", "a"]}, "named twice"),
        ({"classes": ["a"]}, "at least 2"),
        ({"augment": {"shift": 2, "crop": 2}}, "set one of them"),
        ({"augment": {"mirror": True}}, "unknown key, allowed here: crop, flip, shift"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        Settings(name="image_classification", **settings)


def test_the_majority_is_the_commonest_class_and_of_equals_the_first():
    baseline = task_of(["c", "b", "b", "a", "c"]).baselines()["majority"]
    assert baseline.columns == {"predicted": "b"}
    assert baseline.account == {"class": "b", "training_share": 0.4}
    assert task_of(["c", "c", "a"]).baselines()["majority"].columns == {"predicted": "c"}


def test_claims_floor_and_headline_name_what_there_is():
    task = task_of(["a", "b"])
    names = {metric.name for metric in task.metrics}
    assert task.headline in names
    assert {claim.metric for claim in task.claims} <= names
    assert {claim.baseline for claim in task.claims} | {task.floor} == set(task.baselines())


def test_details_hold_scores_by_class():
    table = pl.DataFrame({"label": ["a", "b", "b"], "predicted": ["a", "b", "a"]})
    details = task_of(["a", "b"]).details(table)
    assert details["by_class"]["b"]["recall"] == 0.5
    assert details["confusion"]["true_by_predicted"] == [[1, 0], [1, 1]]


def test_the_dag_reads_the_task_without_torch_polars_or_numpy():
    line = (
        "import sys; from peft_ablation.tasks import task_class;"
        "task_class('image_classification').Settings(name='image_classification');"
        "print({'torch', 'polars', 'numpy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
    assert task_class("image_classification") is ImageClassification
