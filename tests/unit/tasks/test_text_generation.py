"""Text generation: tokens, loss, several references, what is written, wrong data."""

import re
import shutil

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from text_studies import TEXTS, table_of, written

from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.methods.lora import LoraSettings
from peft_ablation.tasks.text_generation import Settings, TextGeneration
from peft_ablation.tasks.text_generation.examples import load_tokenizer
from peft_ablation.tasks.text_generation.model import load_model

torch.set_num_threads(1)
CPU = torch.device("cpu")
KINDS = ("gpt2", "llama", "mistral", "qwen2")
PROMPTS = ["a cheap pub", "food: Thai", "an inn near the river, dear", "x"]
REFERENCES = [
    ["It is cheap.", "A cheap pub it is, and how!"],
    ["Thai food."],
    ["The inn is dear.", "Dear inn.", "By the river there is a dear inn."],
    ["No."],
]
SCORED = pl.DataFrame(
    {"hypothesis": ["a", ""], "reference": [["a"], ["b"]], "nll": [3.0, 1.0], "tokens": [2, 2]}
)
ROWS = table_of({"prompt": PROMPTS, "reference": REFERENCES})


@pytest.fixture(scope="session")
def causal_base(tmp_path_factory):
    """Return the folder of a tiny base of a kind, with random weights and a tokenizer."""
    import transformers

    root, made = tmp_path_factory.mktemp("causal-bases"), {}

    def folder(kind):
        if kind not in made:
            out = root / kind
            train_tokenizer([*PROMPTS, *(t for r in REFERENCES for t in r), *TEXTS], 300, out)
            size = len(load_tokenizer(out))
            common = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}
            torch.manual_seed(7)
            name = TextGeneration.architectures[kind]
            model_class = getattr(transformers, name)
            sizes = (
                {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96}
                if kind == "gpt2"
                else {
                    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "num_key_value_heads": 2, "intermediate_size": 32,
                    "max_position_embeddings": 96,
                }
            )  # fmt: skip
            model = model_class(model_class.config_class(**common, **sizes))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(3)  # far from uniform, so that a wrong token is seen
            model.save_pretrained(out)
            made[kind] = out
        return made[kind]

    return folder


def task_of(rows=ROWS, **settings):
    fields = Settings(name="text_generation", max_tokens=90, max_new_tokens=6, **settings)
    return TextGeneration(fields.model_dump(), rows)


def examples_of(tmp_path, base, rows=ROWS, **settings):
    return task_of(rows, **settings).examples(written(tmp_path, rows), {}, base)


def by_transformers(model, prompt, answer):
    """The loss of each token of an answer, as transformers' own loss has it, one row alone."""
    ids = torch.tensor([[*prompt, *answer]])
    labels = torch.tensor([[-100] * len(prompt) + list(answer)])
    return model(input_ids=ids, labels=labels).loss.item() * len(answer)


def test_models_are_named_as_in_transformers():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    assert set(KINDS) == TextGeneration.architectures.keys()
    assert {kind: NAMES[kind] for kind in KINDS} == dict(TextGeneration.architectures)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_transformers_one_reference_at_a_time(tmp_path, causal_base, kind):
    base = causal_base(kind)
    examples = examples_of(tmp_path, base)
    model = load_model(base).eval()
    expected = [
        sum(by_transformers(model, prompt, answer) for answer in answers)
        for prompt, answers in zip(examples.prompts, examples.answers, strict=True)
    ]
    module = task_of().loss_module(model, base)
    with torch.no_grad():
        for place, loss in enumerate(expected):
            assert float(module(**examples.batch([place]))) == pytest.approx(loss, rel=1e-5)
        whole = float(module(**examples.batch([0, 1, 2, 3])))
    assert whole == pytest.approx(sum(expected), rel=1e-5)
    assert examples.weight([0, 2]) == sum(len(a) for i in (0, 2) for a in examples.answers[i])


def test_a_row_by_hand(tmp_path, causal_base):
    examples = examples_of(tmp_path, causal_base("gpt2"))
    tokenizer = load_tokenizer(causal_base("gpt2"))
    begin = tokenizer(PROMPTS[3])["input_ids"][:-1]
    answer = tokenizer(" No.", add_special_tokens=False)["input_ids"]
    assert begin[0] == tokenizer.bos_token_id
    batch = examples.batch([3])
    assert batch.keys() == {"input_ids", "sources", "targets"}
    assert batch["input_ids"].tolist() == [[*begin, *answer]]
    assert batch["targets"].tolist() == [[*answer, tokenizer.eos_token_id]]
    last = len(begin) - 1
    assert batch["sources"].tolist() == [list(range(last, last + len(answer) + 1))]


def test_gradient_with_several_references_is_that_of_each_alone(tmp_path, causal_base):
    base = causal_base("llama")
    examples, model = examples_of(tmp_path, base), load_model(base).train()
    module = task_of().loss_module(model, base)
    module(**examples.batch([0, 2])).backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for place in (0, 2):
        for answer in examples.answers[place]:
            ids = torch.tensor([[*examples.prompts[place], *answer]])
            labels = ids.clone()
            labels[:, : len(examples.prompts[place])] = -100
            (model(input_ids=ids, labels=labels).loss * len(answer)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_labels_are_smoothed_in_training_alone(tmp_path, causal_base):
    base = causal_base("gpt2")
    examples, model = examples_of(tmp_path, base), load_model(base)
    module = task_of(label_smoothing=0.2).loss_module(model, base)
    for parameter in model.modules():
        if isinstance(parameter, torch.nn.Dropout):
            parameter.p = 0.0
    batch, answer = examples.batch([1]), examples.answers[1][0]
    ids = torch.tensor([[*examples.prompts[1], *answer]])
    logits = model.eval()(ids).logits[0, len(examples.prompts[1]) - 1 : -1]
    log_p = logits.log_softmax(-1)
    own = -log_p[range(len(answer)), answer]
    smoothed = 0.8 * own - 0.2 * log_p.mean(-1)
    assert module.train()(**batch).item() == pytest.approx(smoothed.sum().item(), rel=1e-4)
    assert module.eval()(**batch).item() == pytest.approx(own.sum().item(), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3, "length_penalty": 0.3}, {"num_beams": 2, "no_repeat_ngram_size": 2}],
    ids=["greedy", "beams", "no_repeat"],
)
def test_texts_are_those_of_generate_one_prompt_at_a_time(tmp_path, causal_base, kind, settings):
    base = causal_base(kind)
    task, examples = task_of(**settings), examples_of(tmp_path, base)
    writer = task.predictor(load_model(base), base, CPU)
    found = writer(examples, [0, 1, 2, 3])
    model, tokenizer = load_model(base).eval(), load_tokenizer(base)
    for place, prompt in enumerate(examples.prompts):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
            eos_token_id=3, pad_token_id=3, **settings,
        )  # fmt: skip
        text = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True).strip()
        assert found["hypothesis"][place] == text
        expected = sum(by_transformers(model, prompt, a) for a in examples.answers[place])
        assert found["nll"][place] == pytest.approx(expected, rel=1e-5)


def test_sampling_comes_from_the_seed(tmp_path, causal_base):
    base = causal_base("gpt2")
    examples = examples_of(tmp_path, base)

    def texts(seed):
        task = task_of(sample=True, temperature=2.0, sampling_seed=seed)
        torch.rand(seed + 1)  # what was drawn before does not matter
        return task.predictor(load_model(base), base, CPU)(examples, [0, 1, 2, 3])["hypothesis"]

    assert texts(0) == texts(0) != texts(1)


def test_a_text_ends_at_the_end_token(tmp_path, causal_base):
    base = causal_base("gpt2")
    model, examples = load_model(base), examples_of(tmp_path, base)
    first = task_of().predictor(model, base, CPU)(examples, [0])["hypothesis"][0]
    assert first
    with torch.no_grad():
        # Whatever is read, the end is likeliest: a vocabulary of one direction.
        model.lm_head.weight.zero_()
        model.lm_head.weight[3] = model.transformer.ln_f.weight
    model.transformer.ln_f.bias.data.copy_(model.transformer.ln_f.weight.data)
    assert task_of().predictor(model, base, CPU)(examples, [0, 1])["hypothesis"] == ["", ""]


def test_lora_learns_and_writes_the_same_merged(tmp_path, causal_base):
    base, arm = (
        causal_base("llama"),
        LoraSettings(method="lora", targets="all", r=4, learning_rate=1),
    )
    method = open_method(arm.model_dump(mode="json"))
    model = method.apply(load_model(base), seed=0, heads=(), steps=20, batches=list)
    task, examples = task_of(), examples_of(tmp_path, base)
    module, every = task.loss_module(model, base), [0, 1, 2, 3]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(20):
        loss = module(**examples.batch(every))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    method.save(model, tmp_path / "model")
    apart = task.predictor(model, base, CPU)(examples, every)
    merged = method.load(task.load_model, base, tmp_path / "model")
    together = task.predictor(merged, base, CPU)(examples, every)
    assert together["hypothesis"] == apart["hypothesis"]
    assert together["nll"] == pytest.approx(apart["nll"], rel=1e-4)


def test_shuffled_gives_each_reference_another_prompt(tmp_path, causal_base):
    examples = examples_of(tmp_path, causal_base("gpt2"))
    changed = task_of().shuffled(examples, 3)
    assert changed.references == examples.references
    assert sorted(changed.prompts) == sorted(examples.prompts)
    assert all(a != b for a, b in zip(changed.prompts, examples.prompts, strict=True))


def test_shuffled_prompts_leave_room_for_the_answers(tmp_path, causal_base):
    """A base has no positions for more; the end of a prompt, where the answer begins, is kept."""
    rows = table_of({"prompt": ["a" * 60, "b"], "reference": [["c"], ["d" * 60]]})
    whole = examples_of(tmp_path, causal_base("gpt2"), rows)
    limit = max(len(p) + len(a[0]) for p, a in zip(whole.prompts, whole.answers, strict=True))
    settings = Settings(name="text_generation", max_tokens=limit, max_new_tokens=6).model_dump()
    examples = TextGeneration(settings, rows).examples(
        written(tmp_path, rows), {}, causal_base("gpt2")
    )
    changed = examples.shuffled(0)
    assert max(changed.lengths) + 1 == limit
    assert changed.prompts[1] == examples.prompts[0][-len(changed.prompts[1]) :]
    assert changed.prompts[0] == examples.prompts[1]


def test_commonest_reference_is_the_baseline():
    rows = table_of({"prompt": ["a", "b", "c"], "reference": [["x", "y"], ["y"], ["z"]]})
    baseline = task_of(rows).baselines()["constant"]
    assert baseline.columns == {"hypothesis": "y"}
    assert baseline.account == {"rows": 2}


def test_perplexity_is_the_exponential_of_the_token_loss():
    from peft_ablation.metrics.metric import statistics_of, sum_columns, value_of

    every = task_of().metrics
    assert statistics_of(every, SCORED).shape == (2, len(sum_columns(every)))
    metrics = {metric.name: metric for metric in every}
    metric = metrics["perplexity"]
    sums = statistics_of([metric], SCORED).sum(axis=0)
    assert value_of(metric, sum_columns([metric]), sums) == pytest.approx(2.718281828)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "write:"}, "expected {prompt} in it, once"),
        ({"answer": "{text}"}, "expected {reference} in it, once"),
        ({"prompt": "{prompt"}, "is no template"),
        ({"sample": True, "num_beams": 2}, "sample and num_beams are both set"),
    ],
)
def test_settings_that_do_not_agree_are_refused(settings, told):
    with pytest.raises(ValidationError, match=re.escape(told)):
        Settings(name="text_generation", **settings)


def refusal(tmp_path, base, rows=ROWS, **settings):
    fields = {"max_tokens": 90, "max_new_tokens": 6, **settings}
    task = TextGeneration(Settings(name="text_generation", **fields).model_dump(), rows)
    with pytest.raises(InputError) as error:
        task.examples(written(tmp_path, rows), {}, base)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_empty_reference_is_one_line(tmp_path, causal_base):
    rows = table_of({"prompt": ["a", "b"], "reference": [["x"], ["y", " "]]})
    assert "row 2: found an empty reference" in refusal(tmp_path, causal_base("gpt2"), rows)
    rows = table_of({"prompt": ["a", "b"], "reference": [["x"], []]})
    assert "row 2: found no reference" in refusal(tmp_path, causal_base("gpt2"), rows)


def test_texts_that_are_too_long_are_counted_or_cut(tmp_path, causal_base):
    base = causal_base("gpt2")
    whole = examples_of(tmp_path, base)
    sizes = [len(p) + max(map(len, a)) for p, a in zip(whole.prompts, whole.answers, strict=True)]
    limit, longer = max(sizes) - 2, sum(size > max(sizes) - 2 for size in sizes)
    told = refusal(tmp_path, base, max_tokens=limit)
    assert f"is {limit}, but {longer} of 4 texts" in told
    assert f"set task.max_tokens to {max(sizes)}, or task.too_long to cut" in told
    settings = Settings(
        name="text_generation", max_tokens=limit, max_new_tokens=6, too_long="cut"
    ).model_dump()
    cut = TextGeneration(settings, ROWS).examples(written(tmp_path, ROWS), {}, base)
    for place, prompt in enumerate(whole.prompts):
        room = limit - len(prompt)
        assert cut.answers[place] == [answer[:room] for answer in whole.answers[place]]
    assert cut.answers != whole.answers


def test_a_prompt_longer_than_the_context_is_one_line(tmp_path, causal_base):
    assert "has a context of 96" in refusal(tmp_path, causal_base("gpt2"), max_new_tokens=90)
    told = refusal(tmp_path, causal_base("gpt2"), max_tokens=5)
    assert "leave no room for an answer" in told


def test_a_tokenizer_without_an_end_is_one_line(tmp_path, causal_base):
    from transformers import AutoTokenizer

    folder = tmp_path / "endless"
    shutil.copytree(causal_base("gpt2"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    assert "its tokenizer has no end token" in refusal(tmp_path, folder)


def test_a_trained_llama_continues_a_story(tmp_path, shared_data):
    base = shared_data.parent / "bases" / "stories260K"
    rows = table_of(
        {"prompt": ["Once upon a time"], "reference": [[", there was a little girl named Lily."]]}
    )
    task = TextGeneration(
        Settings(name="text_generation", answer="{reference}", max_new_tokens=20).model_dump(), rows
    )
    examples = task.examples(written(tmp_path, rows), {}, base)
    found = task.predictor(load_model(base), base, CPU)(examples, [0])
    assert found["hypothesis"][0].startswith(", there was a little")
