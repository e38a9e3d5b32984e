"""Text classification: head, tokens, padding, loss, predictions, controls, wrong data."""

import json
import re

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from text_studies import CONFIGS, TEXTS, make_text_base, table_of, task_of, written
from torch.nn import functional

from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.methods.lora import LoraSettings
from peft_ablation.tasks.text_classification import HEADS, Settings, TextClassification
from peft_ablation.tasks.text_classification.examples import longest_of
from peft_ablation.tasks.text_classification.model import load_model

torch.set_num_threads(1)
CPU = torch.device("cpu")
KINDS = sorted(CONFIGS)
CLASSES = ("no", "yes")
SINGLE = table_of({"text": TEXTS * 2, "label": ["no", "yes", "yes", "no"] * 2})
PAIRS = SINGLE.with_columns(pl.Series("text_pair", TEXTS[::-1] * 2))
SCORED = table_of({"text": TEXTS * 2, "score": [0.5, 1, 2.25, 5, 4, 3, 0, 1]})


@pytest.fixture(scope="session")
def text_base(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("text-bases"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = make_text_base(root / kind, kind)
        return made[kind]

    return folder


# -- the head --------------------------------------------------------------------------------------


def test_every_kind_is_tried_and_named_as_in_transformers():
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES,
    )

    assert set(KINDS) == HEADS.keys() == TextClassification.architectures.keys()
    assert {kind: NAMES[kind] for kind in KINDS} == dict(TextClassification.architectures)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_heads_of_a_base_are_new_and_they_come_from_the_seed(text_base, kind):
    from transformers import AutoModel

    folder = text_base(kind)

    def state(seed):
        torch.manual_seed(seed)
        return {k: v.clone() for k, v in load_model(folder, CLASSES).state_dict().items()}

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = {name for name in first if not torch.equal(first[name], other[name])}
    assert drawn
    assert {name.partition(".")[0] for name in drawn} == set(HEADS[kind])
    body = AutoModel.from_pretrained(folder).state_dict()
    for name, tensor in first.items():
        inner = name.partition(".")[2]
        if name.partition(".")[0] not in HEADS[kind] and inner in body:
            assert torch.equal(tensor, body[inner]), name


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_and_saves_the_heads_of_every_kind(text_base, tmp_path, kind):
    task = task_of(SINGLE)
    model = task.load_model(text_base(kind))
    heads = task.heads_of(model)
    arm = LoraSettings(
        method="lora", targets="regex:.*(q_proj|query|c_attn|q_lin|query_proj|in_proj|attn.q)$",
        r=2, learning_rate=1,
    ).model_dump(mode="json")  # fmt: skip
    method = open_method(arm)
    adapted = method.apply(model, seed=1, heads=heads, steps=1, batches=list)
    trained = {
        name.removeprefix("base_model.model.").partition(".")[0]
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    assert trained == set(HEADS[kind])
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    method.save(adapted, tmp_path)
    examples = task.examples(written(tmp_path, SINGLE), {}, text_base(kind))
    batch = examples.batch(np.arange(4))
    loaded = method.load(task.load_model, text_base(kind), tmp_path)
    expected = task.loss_module(adapted.eval(), "")(**batch)
    assert task.loss_module(loaded.eval(), "")(**batch).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_a_head_of_other_classes_is_made_anew_with_its_dense_layer(text_base, tmp_path):
    model = load_model(text_base("roberta"), ("a", "b", "c"))
    model.save_pretrained(tmp_path)
    for classes in (CLASSES, ("x", "y", "z"), ()):
        torch.manual_seed(1)
        other = load_model(tmp_path, classes)
        assert other.config.num_labels == (len(classes) or 1)
        assert not torch.equal(other.classifier.dense.weight, model.classifier.dense.weight)
        assert torch.equal(
            other.roberta.embeddings.word_embeddings.weight,
            model.roberta.embeddings.word_embeddings.weight,
        )


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "llama"])
def test_a_head_of_the_same_classes_is_kept_in_their_order(text_base, tmp_path, kind):
    model = load_model(text_base(kind), ("a", "b", "c")).eval()
    model.save_pretrained(tmp_path)
    ids = torch.tensor([[0, 9, 8, 7, 2]])
    turned = load_model(tmp_path, ("c", "a", "b")).eval()
    assert [turned.config.id2label[place] for place in range(3)] == ["c", "a", "b"]
    assert torch.allclose(turned(ids).logits, model(ids).logits[:, [2, 0, 1]])


def test_the_problem_is_said_and_a_score_has_one_output(text_base):
    model = load_model(text_base("bert"), ())
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    model = load_model(text_base("bert"), CLASSES)
    assert model.config.problem_type == "single_label_classification"
    assert model.config.id2label == {0: "no", 1: "yes"}


def test_a_base_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="model_type is 'vit', expected albert, bert"):
        load_model(tmp_path, CLASSES)


# -- tokens and padding ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_beside_longer_ones_has_the_logits_it_has_alone(text_base, tmp_path, kind):
    task = task_of(PAIRS)
    base = text_base(kind)
    examples = task.examples(written(tmp_path, PAIRS), {}, base)
    torch.manual_seed(1)
    predictor = task.predictor(task.load_model(base), base, CPU)
    with torch.no_grad():
        together = predictor(examples, np.arange(4))["nll"]
        alone = [predictor(examples, np.array([place]))["nll"][0] for place in range(4)]
    assert len(set(examples.lengths[:4])) > 1
    assert together == pytest.approx(alone, abs=1e-5)


def test_texts_are_what_the_tokenizer_makes_padded_on_the_right(text_base, tmp_path):
    from transformers import AutoTokenizer

    base = text_base("roberta")
    tokenizer = AutoTokenizer.from_pretrained(base)
    task = task_of(PAIRS)
    batch = task.examples(written(tmp_path, PAIRS), {}, base).batch(np.array([2, 0]))
    expected = tokenizer(
        [TEXTS[2], TEXTS[0]], [TEXTS[1], TEXTS[3]], padding=True, return_tensors="pt"
    )
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert batch["label"].tolist() == [1, 0]
    assert set(batch) == {"label", "input_ids", "attention_mask"}
    # <s> one </s></s> other </s>, then pads.
    assert expected["input_ids"][1].tolist().count(3) == 3
    assert expected["input_ids"][1, -1] == 1


def test_two_texts_are_told_apart_where_the_base_does(text_base, tmp_path):
    from transformers import BertTokenizerFast

    base = tmp_path / "bert"
    make_text_base(base, "bert")
    for path in base.glob("tokenizer*"):
        path.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in TEXTS for w in t.split()})]
    (base / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(base / "vocab.txt")).save_pretrained(base)
    examples = task_of(PAIRS).examples(written(tmp_path, PAIRS), {}, base)
    batch = examples.batch(np.array([0, 1]))
    # [CLS] a cat sat [SEP] no [SEP]
    assert batch["token_type_ids"][0].tolist() == [0] * 5 + [1] * 2 + [0] * 8
    assert batch["attention_mask"][0].tolist() == [1] * 7 + [0] * 8


def test_a_pair_without_marks_is_two_lines(text_base, tmp_path):
    from tokenizers import Tokenizer

    base = make_text_base(tmp_path / "gpt2", "gpt2")
    plain = Tokenizer.from_file(str(base / "tokenizer.json"))
    told = json.loads(plain.to_str()) | {"post_processor": None}
    (base / "tokenizer.json").write_text(json.dumps(told))
    examples = task_of(PAIRS).examples(written(tmp_path, PAIRS), {}, base)
    expected = plain.encode(f"{TEXTS[1]}\n{TEXTS[2]}", add_special_tokens=False).ids
    assert examples.tokens[1]["input_ids"] == expected


@pytest.mark.parametrize(("kind", "most"), [("roberta", 32), ("bert", 34), ("gpt2", 34)])
def test_the_longest_input_is_the_positions_that_a_base_has(text_base, kind, most):
    from transformers import AutoConfig, RobertaConfig

    assert longest_of(AutoConfig.from_pretrained(text_base(kind))) == most
    model = load_model(text_base(kind), CLASSES).eval()
    assert model(torch.full((1, most), 9)).logits.shape == (1, 2)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 9))
    assert longest_of(RobertaConfig(max_position_embeddings=514)) == 512


def test_a_text_longer_than_the_base_takes_is_counted_or_cut(text_base, tmp_path):
    base, long = text_base("roberta"), "far " * 60
    table = SINGLE.with_columns(text=pl.Series([*TEXTS, *TEXTS[:2], long, long + "away"]))
    path = written(tmp_path, table)
    said = r"2 of 8 texts in \S+ are longer than 32 tokens \(the longest has \d+\) .*too_long"
    with pytest.raises(InputError, match=said) as refused:
        task_of(table).examples(path, {}, base)
    longest = int(re.search(r"longest has (\d+)", str(refused.value))[1])
    assert longest > 32
    assert "far" not in str(refused.value).replace(str(path), "")
    cut = task_of(table, too_long="cut").examples(path, {}, base)
    assert cut.lengths.max() == 32
    assert cut.tokens[6]["input_ids"][-1] == 3  # </s> stays
    assert (
        cut.tokens[:6]
        == task_of(table, too_long="cut", max_tokens=30).examples(path, {}, base).tokens[:6]
    )
    with pytest.raises(InputError, match=r"task.max_tokens: is 33, but \S+ takes 32 at most"):
        task_of(table, max_tokens=33).examples(path, {}, base)


# -- loss and predictions --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
@pytest.mark.parametrize("table", [SINGLE, SCORED], ids=["classes", "score"])
def test_the_loss_is_the_sum_of_what_transformers_means(text_base, tmp_path, kind, table):
    base = text_base(kind)
    task = task_of(table, target="score" if "score" in table.columns else "classes")
    model = task.load_model(base).eval()
    examples = task.examples(written(tmp_path, table), {}, base)
    indices = np.array([0, 3, 2])
    batch = examples.batch(indices)
    theirs = model(**{k: v for k, v in batch.items() if k != "label"}, labels=batch["label"]).loss
    assert task.loss_module(model, base)(**batch).item() == pytest.approx(
        3 * theirs.item(), rel=1e-6
    )
    assert examples.weight(indices) == 3


def test_predictions_are_the_softmax_of_the_logits(text_base, tmp_path):
    base, task = text_base("roberta"), task_of(SINGLE)
    examples = task.examples(written(tmp_path, SINGLE), {}, base)
    model = task.load_model(base).eval()
    indices = np.array([5, 1, 2])
    batch = examples.batch(indices)
    with torch.no_grad():
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
        found = task.predictor(model, base, CPU)(examples, indices)
    assert found["predicted"] == [CLASSES[place] for place in logits.argmax(1)]
    assert found["probability"] == pytest.approx(logits.softmax(1).max(1).values.tolist(), abs=1e-6)
    nll = functional.cross_entropy(logits, batch["label"], reduction="none")
    assert found["nll"] == pytest.approx(nll.tolist(), abs=1e-6)
    truth = task.predictor(model, base, CPU).truth(examples)
    assert truth == {"label": SINGLE["label"].to_list()}


def test_a_predicted_score_is_the_models_output(text_base, tmp_path):
    base, task = text_base("bert"), task_of(SCORED, target="score")
    examples = task.examples(written(tmp_path, SCORED), {}, base)
    model = task.load_model(base).eval()
    batch = examples.batch(np.arange(8))
    batch.pop("label")
    with torch.no_grad():
        expected = model(**batch).logits[:, 0].tolist()
        predictor = task.predictor(model, base, CPU)
        assert predictor(examples, np.arange(8))["predicted"] == pytest.approx(expected, abs=1e-6)
    assert predictor.truth(examples) == {"score": SCORED["score"].to_list()}


# -- controls --------------------------------------------------------------------------------------


def test_shuffled_texts_keep_labels_and_nobody_keeps_its_own(text_base, tmp_path):
    task = task_of(PAIRS)
    examples = task.examples(written(tmp_path, PAIRS), {}, text_base("roberta"))
    changed = task.shuffled(examples, 4)
    assert changed.ids == examples.ids
    assert (changed.targets == examples.targets).all()
    own = list(zip(examples.texts, examples.seconds, strict=True))
    found = list(zip(changed.texts, changed.seconds, strict=True))
    assert sorted(found) == sorted(own)
    assert found != own
    order = [examples.tokens.index(row) for row in changed.tokens]
    assert [examples.texts[place] for place in order] == changed.texts


def test_second_texts_alone_are_permuted(text_base, tmp_path):
    rows = {"text": [f"first {n}" for n in range(9)], "text_pair": [f"other {n}" for n in range(9)]}
    table = table_of(rows | {"label": ["no", "yes", "no"] * 3})
    task, base = task_of(table), text_base("roberta")
    examples = task.examples(written(tmp_path, table), {}, base)
    changed = task.controls()["second_shuffled"].change(examples, 4)
    assert changed.texts == examples.texts
    assert sorted(changed.seconds) == sorted(examples.seconds)
    assert all(one != other for one, other in zip(changed.seconds, examples.seconds, strict=True))
    ((tokens,), (expected,)) = (
        examples.tokenise([text], [second])
        for text, second in (
            ("first 3", changed.seconds[3]),
            (changed.texts[3], changed.seconds[3]),
        )
    )
    assert changed.tokens[3] == tokens == expected
    assert (changed.targets == examples.targets).all()


def test_words_are_put_out_of_order_and_none_is_lost(text_base, tmp_path):
    task, base = task_of(PAIRS), text_base("roberta")
    examples = task.examples(written(tmp_path, PAIRS), {}, base)
    control = task.controls()["words_shuffled"]
    changed = control.change(examples, 4)
    for one, other in (
        (examples.texts, changed.texts), (examples.seconds, changed.seconds)
    ):  # fmt: skip
        assert [sorted(text.split()) for text in one] == [sorted(text.split()) for text in other]
    assert changed.texts != examples.texts
    assert changed.tokens == examples.tokenise(changed.texts, changed.seconds)
    assert control.change(examples, 4).texts == changed.texts
    assert control.change(examples, 5).texts != changed.texts


def test_one_text_has_no_second_to_shuffle():
    assert list(task_of(SINGLE).controls()) == ["words_shuffled", "empty_text"]
    assert list(task_of(PAIRS).controls()) == ["second_shuffled", "words_shuffled", "empty_text"]


# -- learning --------------------------------------------------------------------------------------


def test_a_model_learns_a_word_and_knows_nothing_without_its_texts(text_base, tmp_path):
    random = np.random.default_rng(1)
    yes = random.random(64) < 0.5
    texts = [f"the {'dog' if one else 'cat'} {random.choice(['sat', 'ran'])}" for one in yes]
    table = table_of({"text": texts, "label": np.where(yes, "yes", "no").tolist()})
    task, base = task_of(table), text_base("roberta")
    examples = task.examples(written(tmp_path, table), {}, base)
    torch.manual_seed(3)
    model = task.load_model(base)
    module = task.loss_module(model, base)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        (module(**examples.batch(np.arange(64))) / 64).backward()
        optimizer.step()

    def accuracy(rows):
        with torch.no_grad():
            found = task.predictor(model, base, CPU)(rows, np.arange(64))["predicted"]
        return np.mean(np.array(found) == np.array(table["label"]))

    assert accuracy(examples) == 1
    assert accuracy(task.shuffled(examples, 1)) < 0.75
    assert accuracy(task.controls()["words_shuffled"].change(examples, 1)) > 0.9


# -- metrics, baselines, headline ------------------------------------------------------------------


def test_metrics_and_claims_follow_what_is_told():
    task = task_of(SINGLE, positive="yes", headline="f1")
    names = [metric.name for metric in task.metrics]
    assert names == ["accuracy", "macro_f1", "matthews", "f1", "test_loss", "calibration_error"]
    assert task.headline == "f1"
    assert [(c.metric, c.baseline) for c in task.claims] == [
        ("accuracy", "majority"), ("f1", "majority"),
    ]  # fmt: skip
    assert task_of(SINGLE).headline == "accuracy"
    score = task_of(SCORED, target="score")
    assert [metric.name for metric in score.metrics] == ["pearson", "spearman", "rmse"]
    assert (score.headline, score.floor, score.truth) == ("pearson", None, ("score",))


def test_baselines_are_the_commonest_class_and_the_mean_score():
    table = table_of({"text": ["a"] * 5, "label": ["y", "x", "y", "x", "z"]})
    assert task_of(table).baselines()["majority"].columns == {"predicted": "x"}
    mean = task_of(SCORED, target="score").baselines()["mean"]
    assert mean.columns == {"predicted": pytest.approx(16.75 / 8)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classes": ["a", "a"]}, "a class is named twice"),
        ({"target": "score", "classes": ["a", "b"]}, "target is score, but classes"),
        ({"classes": ["a", "b"], "positive": "c"}, "positive: found 'c', allowed: a, b"),
        ({"headline": "pearson"}, "headline: pearson is no metric of target classes"),
        ({"headline": "accuracy", "target": "score"}, "accuracy is no metric of target score"),
        ({"headline": "f1"}, "name it as positive"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        Settings(name="text_classification", **settings)


# -- wrong data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "settings", "said"),
    [
        ("label", "maybe", {}, r"1 of 8 rows have a label that is no class, the first is row 3, "
         r"'maybe'; expected no, yes"),
        ("label", "-1", {}, r"row 3, '-1'; it looks like a test file without labels"),
        ("label", None, {}, r"row 3, None; expected no, yes"),
        ("text", None, {}, r"1 of 8 rows have no text, the first is row 3"),
        ("text_pair", None, {}, r"1 of 8 rows have no text_pair, the first is row 3"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_by_its_number(text_base, tmp_path, column, value, settings, said):
    wrong = pl.Series([value if n == 2 else own for n, own in enumerate(PAIRS[column])])
    path = written(tmp_path, PAIRS.with_columns(wrong.alias(column)))
    with pytest.raises(InputError, match=said) as refused:
        task_of(PAIRS, **settings).examples(path, {}, text_base("roberta"))
    assert str(path) in str(refused.value)
    assert not any(text in str(refused.value) for text in TEXTS[:3])


@pytest.mark.parametrize("value", ["much", None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_named(text_base, tmp_path, value):
    kind = pl.String if isinstance(value, str) else pl.Float64
    scores = [value if n == 4 else kind.to_python()(n) for n in range(8)]
    table = SCORED.with_columns(pl.Series("score", scores, dtype=kind))
    path = written(tmp_path, table)
    with pytest.raises(InputError, match=r"1 of 8 rows have a score that is no number.* row 5, "):
        task_of(SCORED, target="score").examples(path, {}, text_base("roberta"))


def test_a_class_that_a_split_lacks_is_named(text_base, tmp_path):
    path = written(tmp_path, SINGLE.filter(pl.col("label") == "no"))
    with pytest.raises(InputError, match=r"no row is of the class 'yes' \(1 of 2 classes"):
        task_of(SINGLE).examples(path, {}, text_base("roberta"))


def test_a_class_or_column_that_the_training_split_lacks_is_named():
    with pytest.raises(InputError, match="no training text is of the class 'maybe', found no, yes"):
        _ = task_of(SINGLE, classes=["no", "yes", "maybe"]).classes
    with pytest.raises(InputError, match="the training split has the class 'yes', which is not"):
        _ = task_of(SINGLE, classes=["no", "yess"]).classes
    with pytest.raises(InputError, match=r"task\.positive: found 'oui', allowed: no, yes"):
        _ = task_of(SINGLE, positive="oui").classes
    with pytest.raises(InputError, match=r"no column .label., found .*set task\.target to score"):
        _ = task_of(SCORED).classes


# -- the start from another run --------------------------------------------------------------------


@pytest.mark.parametrize("classes", [CLASSES, ("a", "b", "c"), ()], ids=["two", "three", "score"])
def test_an_adapter_of_three_classes_starts_another_task_and_its_head_stays_new(
    text_base, tmp_path, classes
):
    base = text_base("roberta")
    arm = LoraSettings(method="lora", targets="query_value", r=2, learning_rate=1)
    method = open_method(arm.model_dump(mode="json"))

    def fresh(labels, seed):
        torch.manual_seed(seed)
        model = load_model(base, labels)
        return method.apply(model, seed=seed, heads=HEADS["roberta"], steps=1, batches=list)

    mnli = fresh(("entailment", "neutral", "contradiction"), 1)
    for parameter in mnli.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    method.save(mnli, tmp_path)
    model, untouched = fresh(classes, 2), fresh(classes, 2).state_dict()
    method.start_from(model, tmp_path, HEADS["roberta"])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    learnt = dict(mnli.named_parameters())
    adapters = [name for name in trained if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2  # layers, query and value, A and B
    assert all(torch.equal(trained[name], learnt[name]) for name in adapters)
    heads = [name for name in trained if "lora_" not in name]
    assert len(heads) == 4  # weight and bias of dense and out_proj
    assert all(torch.equal(trained[name], untouched[name]) for name in heads)
    assert not any(
        torch.equal(trained[name], learnt[name])
        for name in heads
        if trained[name].shape == learnt[name].shape
    )
