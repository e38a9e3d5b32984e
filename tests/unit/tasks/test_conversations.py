"""Text generation of conversations: what is supervised, prompts, cutting, wrong data."""

import shutil

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from text_studies import written

from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.errors import InputError
from peft_ablation.tasks.text_generation import Settings, TextGeneration
from peft_ablation.tasks.text_generation.chat import Turn, divided
from peft_ablation.tasks.text_generation.chat_templates import shipped_templates
from peft_ablation.tasks.text_generation.messages import KIND
from peft_ablation.tasks.text_generation.model import load_model

torch.set_num_threads(1)
CPU = torch.device("cpu")
LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHATML = ("<|im_start|>", "<|im_end|>")
TALK = [
    [("system", "Be brief."), ("user", "Hello?"), ("assistant", "Hi."), ("user", "What is 1 + 1?"),
     ("assistant", "Two, or 2.")],
    [("user", "  Name a cheese. "), ("assistant", "Brie\nor Gouda. ")],
    [("user", "Bye"), ("assistant", "Bye, and thank you!"), ("user", "…")],
]  # fmt: skip


def talks(*conversations, **columns):
    rows = [[{"role": r, "content": c} for r, c in talk] for talk in conversations]
    ids = [f"r{n}" for n in range(len(rows))]
    table = {"example_id": ids, "group": ids, "messages": pl.Series(rows, dtype=KIND), **columns}
    return pl.DataFrame(table)


ROWS = talks(*TALK)


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory):
    """Return the folder of a tiny Llama whose tokenizer has the tokens of the chat templates."""
    import transformers

    out = tmp_path_factory.mktemp("chat-base") / "llama"
    texts = [content for talk in TALK for _, content in talk]
    train_tokenizer([*texts, "system user assistant"], 320, out, (*LLAMA_3, *CHATML))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=3, pad_token_id=1,
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=160,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far from uniform, so that a wrong token is seen
    model.save_pretrained(out)
    return out


def tokenizer_of(base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def task_of(rows=ROWS, **settings):
    fields = {"chat_template": "llama-3", "max_tokens": 140, "max_new_tokens": 6, **settings}
    return TextGeneration(Settings(name="text_generation", **fields).model_dump(), rows)


def examples_of(tmp_path, base, rows=ROWS, **settings):
    return task_of(rows, **settings).examples(written(tmp_path, rows), {}, base)


def by_transformers(base, template, row):
    """Ids of a conversation and whether each is the assistant's, by the template's own tags."""
    found = tokenizer_of(base).apply_chat_template(
        row, chat_template=shipped_templates()[template], tokenize=True, return_dict=True,
        return_assistant_tokens_mask=True,
    )  # fmt: skip
    return found["input_ids"], found["assistant_masks"]


def test_llama_3_by_hand(tmp_path, chat_base):
    """Header, two line ends, text without white space around it, end of turn; nothing else."""
    turns = examples_of(tmp_path, chat_base).turns
    decode = tokenizer_of(chat_base).decode
    first = [(decode(t.before).replace(" ", ""), decode(t.told).strip()) for t in turns[0]]
    assert first == [
        (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBebrief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHello?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "Hi.<|eot_id|>",
        ),
        (
            "<|start_header_id|>user<|end_header_id|>\n\nWhatis1+1?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "Two, or 2.<|eot_id|>",
        ),
    ]
    assert decode(turns[1][0].told) == "Brie\nor Gouda.<|eot_id|>"
    # What follows the last turn of the assistant is of no use.
    assert len(turns[2]) == 1


@pytest.mark.parametrize("template", ["llama-3", "chatml", "plain"])
def test_supervised_are_the_tokens_that_transformers_masks(tmp_path, chat_base, template):
    examples = examples_of(tmp_path, chat_base, chat_template=template)
    for place, row in enumerate(ROWS["messages"].to_list()):
        ids, mask = by_transformers(chat_base, template, row)
        batch = examples.batch([place])
        read = batch["input_ids"][0].tolist()
        assert read == ids[: len(read)]
        told = [index for index, own in enumerate(mask) if own]
        assert batch["targets"][0].tolist() == [ids[index] for index in told]
        assert batch["sources"][0].tolist() == [index - 1 for index in told]
        assert examples.weights[place] == sum(mask)
        assert examples.lengths[place] == len(read) == told[-1]


def test_a_turn_that_begins_with_a_space_is_supervised_whole(tmp_path, chat_base):
    """The mask of transformers then has no token of it: a space is of no token's characters."""
    rows = talks([("user", "a"), ("assistant", " b c")])
    ((turn,),) = examples_of(tmp_path, chat_base, rows, chat_template="chatml").turns
    decode = tokenizer_of(chat_base).decode
    assert decode(turn.before).endswith("assistant\n")
    assert decode(turn.told) == "  b c<|im_end|>".replace("  ", " ")
    _, mask = by_transformers(chat_base, "chatml", rows["messages"].to_list()[0])
    assert sum(mask) == 0


def test_a_token_across_the_border_is_the_assistants():
    """The model has to write it; a token without characters at the border it has not."""
    places = [(0, 2), (2, 5), (5, 6), (6, 8), (8, 8), (8, 9)]
    found = divided([1, 2, 3, 4, 5, 6], places, [(3, 6), (8, 9)])
    assert found == [Turn([1], [2, 3]), Turn([4, 5], [6])]


def test_loss_is_that_of_transformers_in_any_batch(tmp_path, chat_base):
    examples, model = examples_of(tmp_path, chat_base), load_model(chat_base).eval()
    expected = []
    for row in ROWS["messages"].to_list():
        ids, mask = by_transformers(chat_base, "llama-3", row)
        labels = [token if own else -100 for token, own in zip(ids, mask, strict=True)]
        found = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        expected.append(found.item() * sum(mask))
    module = task_of().loss_module(model, chat_base)
    with torch.no_grad():
        for place, loss in enumerate(expected):
            assert float(module(**examples.batch([place]))) == pytest.approx(loss, rel=1e-5)
        whole = float(module(**examples.batch([0, 1, 2])))
    assert whole == pytest.approx(sum(expected), rel=1e-5)
    assert examples.weight([0, 2]) == examples.weights[0] + examples.weights[2]


def test_padding_is_masked_by_length_and_not_by_id(tmp_path, chat_base):
    """A batch's filler is token 0, which may stand in a text as well: <s> here."""
    rows = talks(*TALK, [("user", "a"), ("assistant", "<s> b")])
    examples, model = examples_of(tmp_path, chat_base, rows), load_model(chat_base).eval()
    assert 0 in examples.turns[3][0].told
    module = task_of(rows).loss_module(model, chat_base)
    with torch.no_grad():
        alone = [float(module(**examples.batch([place]))) for place in (0, 3)]
        assert float(module(**examples.batch([0, 3]))) == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("template", ["llama-3", "chatml", "plain"])
def test_the_prompt_is_what_transformers_prompts_with(tmp_path, chat_base, template):
    examples = examples_of(tmp_path, chat_base, chat_template=template)
    for place, row in enumerate(ROWS["messages"].to_list()):
        before = row[: max(n for n, m in enumerate(row) if m["role"] == "assistant")]
        expected = tokenizer_of(chat_base).apply_chat_template(
            before, chat_template=shipped_templates()[template], add_generation_prompt=True,
            tokenize=True, return_dict=True,
        )  # fmt: skip
        assert examples.prompts[place] == expected["input_ids"]
    assert examples.references == [["Two, or 2."], ["Brie\nor Gouda."], ["Bye, and thank you!"]]


def test_texts_are_those_of_generate_one_prompt_at_a_time(tmp_path, chat_base):
    examples, model = examples_of(tmp_path, chat_base), load_model(chat_base).eval()
    with torch.no_grad():
        found = task_of().predictor(load_model(chat_base), chat_base, CPU)(examples, [0, 1, 2])
    tokenizer = tokenizer_of(chat_base)
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    for place, prompt in enumerate(examples.prompts):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
            eos_token_id=end, pad_token_id=end,
        )  # fmt: skip
        text = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True).strip()
        assert found["hypothesis"][place] == text
    module = task_of().loss_module(model, chat_base)
    with torch.no_grad():
        losses = [float(module(**examples.batch([place]))) for place in range(3)]
    assert found["nll"] == pytest.approx(losses, rel=1e-5)


def test_a_text_ends_at_the_templates_end_of_turn_and_not_at_the_tokenizers_end(
    tmp_path, chat_base
):
    examples = examples_of(tmp_path, chat_base)
    tokenizer = tokenizer_of(chat_base)

    def lengths(likeliest):
        model = load_model(chat_base)
        with torch.no_grad():
            # Whatever is read, one token is likeliest: a vocabulary of one direction.
            model.lm_head.weight.zero_()
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(likeliest)] = 1
            model.model.norm.weight.fill_(1)
            model.model.embed_tokens.weight.fill_(1)
        writer = task_of().predictor(model, chat_base, CPU)
        writer.tokenizer.batch_decode = lambda rows, **_: ["x" * len(row) for row in rows]
        return [len(text) for text in writer(examples, [0, 1])["hypothesis"]]

    assert lengths("<|eot_id|>") == [0, 0]
    assert lengths(tokenizer.eos_token) == [6, 6]


def test_a_template_without_tags_gives_the_same_as_one_with_them(tmp_path, chat_base):
    base = tmp_path / "own"
    shutil.copytree(chat_base, base)
    tokenizer = tokenizer_of(base)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer.save_pretrained(base)
    own = examples_of(tmp_path, base, chat_template="tokenizer")
    assert own.turns == examples_of(tmp_path, chat_base, chat_template="chatml").turns
    given = examples_of(tmp_path, chat_base, chat_template=tokenizer.chat_template)
    assert given.turns == own.turns


def test_shuffled_puts_another_conversations_words_before_each_turn(tmp_path, chat_base):
    talk = [*TALK, [("user", "A?"), ("assistant", "A."), ("user", "B?"), ("assistant", "B.")]]
    examples = examples_of(tmp_path, chat_base, talks(*talk))
    changed = task_of().shuffled(examples, 3)
    assert changed.references == examples.references
    assert (changed.weights == examples.weights).all()
    for place in (0, 1):
        pairs = [
            (old[place], new[place])
            for old, new in zip(examples.turns, changed.turns, strict=True)
            if len(old) > place
        ]
        assert all(old.told == new.told for old, new in pairs)
        assert all(old.before != new.before for old, new in pairs)
        assert sorted(old.before for old, _ in pairs) == sorted(new.before for _, new in pairs)


def test_shuffled_conversations_stay_as_short_as_they_may_be(tmp_path, chat_base):
    rows = talks([("user", "a" * 40), ("assistant", "b")], [("user", "c"), ("assistant", "d" * 40)])
    whole = examples_of(tmp_path, chat_base, rows)
    limit = int(max(whole.lengths)) + 1
    examples = examples_of(tmp_path, chat_base, rows, max_tokens=limit)
    changed = examples.shuffled(0)
    assert max(changed.lengths) + 1 == limit
    # The end is kept: a turn begins as it should.
    assert changed.turns[1][0].before == examples.turns[0][0].before[-len(changed.prompts[1]) :]
    assert (changed.weights == examples.weights).all()


def test_conversations_are_cut_and_counted_by_source(tmp_path, chat_base, caplog):
    rows = ROWS.with_columns(pl.Series("source", ["one", "two", "one"]))
    whole = examples_of(tmp_path, chat_base, rows)
    first, second, third = whole.turns
    # The second turn of the first is cut in its text; the others fit or have no room.
    limit = len(whole.prompts[0]) + 2
    assert all(len(t[0].before) + len(t[0].told) <= limit for t in (second, third))
    cut = examples_of(tmp_path, chat_base, rows, max_tokens=limit, too_long="cut")
    assert cut.turns[0][0] == first[0]
    assert cut.turns[0][1].told == first[1].told[:2]
    assert cut.turns[1:] == [second, third]
    assert cut.references == whole.references
    # Only the first turn of the first is left, whole.
    shorter = len(whole.prompts[0])
    cut = examples_of(tmp_path, chat_base, rows, max_tokens=shorter, too_long="cut")
    assert cut.turns[0] == first[:1]
    assert cut.references[0] == ["Hi."]
    # And here the first has no room for any.
    least = len(first[0].before)
    cut = examples_of(tmp_path, chat_base, rows, max_tokens=least, too_long="cut")
    assert cut.ids == ["r1", "r2"]
    assert "1 of 3 conversations are left out" in caplog.text
    task = task_of(rows, max_tokens=least, too_long="cut")
    counts = task.token_counts(written(tmp_path, rows), chat_base)

    def size(turns):
        return sum(len(turn.before) + len(turn.told) for turn in turns)

    assert counts.rows(named=True) == [
        {
            "source": "one", "conversations": 2, "cut": 0, "left_out": 1,
            "tokens": size(first) + size(third), "tokens_cut": size(first),
            "supervised": len(third[0].told),
        },
        {
            "source": "two", "conversations": 1, "cut": 0, "left_out": 0, "tokens": size(second),
            "tokens_cut": 0, "supervised": len(second[0].told),
        },
    ]  # fmt: skip
    task = task_of(rows, max_tokens=limit, too_long="cut")
    counts = task.token_counts(written(tmp_path, rows), chat_base)
    assert counts["cut"].to_list() == [1, 0]
    assert counts["tokens_cut"].to_list() == [len(first[1].told) - 2, 0]
    assert counts["supervised"][0] == len(first[0].told) + 2 + len(third[0].told)


def test_baselines_are_of_last_turns():
    rows = talks(
        [("user", "a"), ("assistant", "x"), ("user", "b"), ("assistant", " y ")],
        [("user", "c d"), ("assistant", "y")], [("user", "e"), ("assistant", "z")],
    )  # fmt: skip
    task = task_of(rows)
    assert task.baselines()["constant"].columns == {"hypothesis": "y"}
    asked = talks([("user", "tell e"), ("assistant", "?")])
    assert task.look_up(asked, {})["hypothesis"].to_list() == ["z"]


def test_training_that_knows_no_conversations_has_no_setting_of_them():
    assert "chat_template" not in Settings(name="text_generation").model_dump(mode="json")
    settings = Settings(name="text_generation", chat_template="plain").model_dump(mode="json")
    assert settings["chat_template"] == "plain"
    assert TextGeneration.needs(settings) == ("messages",)
    assert TextGeneration.needs({}) == ("prompt", "reference")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"chat_template": "llama3"}, "allowed: chatml, llama-3, plain, tokenizer"),
        ({"chat_template": "plain", "prompt": "{prompt}:"}, "chat_template and prompt are both"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        Settings(name="text_generation", **settings)


def refusal(tmp_path, base, rows=ROWS, **settings):
    with pytest.raises(InputError) as error:
        examples_of(tmp_path, base, rows, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("talk", "told"),
    [
        ([("user", "a"), ("human", "b")], "without an assistant turn (roles: user, human)"),
        ([], "without an assistant turn (roles: none)"),
        ([("assistant", "b")], "begins with the assistant"),
        ([("user", "a"), ("assistant", " ")], "found an empty reference"),
        ([("user", None), ("assistant", "b")], "without role or content"),
    ],
)
def test_a_conversation_that_cannot_be_is_named_by_its_row(tmp_path, chat_base, talk, told):
    found = refusal(tmp_path, chat_base, talks(TALK[0], talk))
    assert "row 2" in found
    assert told in found


def test_messages_of_another_type_are_one_line(tmp_path, chat_base):
    rows = ROWS.with_columns(messages=pl.lit("hello"))
    assert "column 'messages' is String" in refusal(tmp_path, chat_base, rows)


def test_a_tokenizer_that_lacks_the_templates_tokens_is_one_line(tmp_path, chat_base):
    base = tmp_path / "lacking"
    shutil.copytree(chat_base, base)
    train_tokenizer(["a"], 300, base, LLAMA_3[:3])
    found = refusal(tmp_path, base)
    assert "llama-3 writes <|eot_id|>, which the tokenizer of base" in found
    assert len(examples_of(tmp_path, base, chat_template="plain")) == 3


def test_a_tokenizer_without_an_end_is_one_line_where_the_template_writes_it(tmp_path, chat_base):
    base = tmp_path / "endless"
    shutil.copytree(chat_base, base)
    tokenizer = tokenizer_of(base)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(base)
    assert "has no end token (eos_token)" in refusal(tmp_path, base, chat_template="plain")
    assert len(examples_of(tmp_path, base)) == 3


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("tokenizer", "has no template"),
        (
            "{% for m in messages %}{{ m.role + m.content }}{% endfor %}"
            "{% if add_generation_prompt %}assistant{% endif %}",
            "could not learn to stop",
        ),
        (
            "{% for m in messages %}{{ m.role + ':' }}{% if m.role == 'user' or loop.last %}"
            "{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}",
            "row 1: the chat template writes earlier turns otherwise",
        ),
        (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}",
            "row 1: the chat template refuses the messages (no system)",
        ),
        ("{% for m in messages %}", "the chat template refuses the messages"),
    ],
    ids=["none", "no_end", "rewrites", "refuses", "no_jinja"],
)
def test_a_template_that_cannot_be_used_is_one_line(tmp_path, chat_base, template, told):
    assert told in refusal(tmp_path, chat_base, chat_template=template)


def test_conversations_that_are_too_long_are_one_line(tmp_path, chat_base):
    whole = examples_of(tmp_path, chat_base)
    longest = int(max(whole.lengths)) + 1
    assert len(examples_of(tmp_path, chat_base, max_tokens=longest)) == 3
    told = refusal(tmp_path, chat_base, max_tokens=longest - 1)
    assert f"1 of 3 texts in {tmp_path / 'test.parquet'} are longer" in told
    assert f"set task.max_tokens to {longest}, or task.too_long to cut" in told
    assert "has a context of 160" in refusal(tmp_path, chat_base, max_new_tokens=150)
    told = refusal(tmp_path, chat_base, max_tokens=5, too_long="cut")
    assert "no conversation of" in told
