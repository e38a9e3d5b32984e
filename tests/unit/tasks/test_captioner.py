"""Captioning with an encoder-decoder: tokens, loss, several captions, texts, bad bases."""

import json
import re
import shutil
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
import torch
from picture_studies import SIZE

from peft_ablation.artifacts import write_table
from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.config.study import Train
from peft_ablation.data.images import cache_shard, index_shards
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.methods.lora import LoraSettings
from peft_ablation.tasks.captioning import Captioning, Settings
from peft_ablation.tasks.captioning.encoder_decoder import load_model, normalize_of
from peft_ablation.tasks.captioning.examples import load_tokenizer
from peft_ablation.training.chunk import train_chunk
from peft_ablation.training.inputs import RunInputs

torch.set_num_threads(1)
CPU = torch.device("cpu")
CAPTIONS = [
    ["A red field.", "All of it is red, and how!"],
    ["Green grass."],
    ["Blue.", "The sky, blue as ever.", "A blue sky."],
    ["Red again.", "A red field."],
]
COLOURS = [(200, 20, 20), (20, 200, 20), (20, 20, 200), (180, 60, 60)]
END = 3
ROWS = pl.DataFrame(
    {"example_id": list("abcd"), "group": list("abcd"), "image": [f"{n}.png" for n in range(4)],
     "report": CAPTIONS}
)  # fmt: skip


@pytest.fixture(scope="session")
def captioners(tmp_path_factory):
    """Folders of tiny bases: of one width, and of two with a projection between them.

    As in GPT-2 a text starts from the token that ends it, which is the padding too.
    """
    from transformers import (
        AutoTokenizer,
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
    )

    root, made = tmp_path_factory.mktemp("captioners"), {}
    for kind, width in (("one_width", 16), ("projected", 24)):
        folder = root / kind
        train_tokenizer([text for several in CAPTIONS for text in several], 300, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({f"{name}_token": "</s>" for name in ("bos", "eos", "pad")})
        tokenizer.save_pretrained(folder)
        encoder = ViTConfig(
            hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            image_size=SIZE, patch_size=8,
        )  # fmt: skip
        decoder = GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=len(tokenizer),
            bos_token_id=END, eos_token_id=END, is_decoder=True, add_cross_attention=True,
        )  # fmt: skip
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            encoder, decoder, decoder_start_token_id=END, pad_token_id=END, eos_token_id=END
        )
        torch.manual_seed(3)
        model = VisionEncoderDecoderModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)  # far from uniform, so that a wrong token is seen
        model.save_pretrained(folder)
        made[kind] = folder
    return made


@pytest.fixture(scope="session")
def git_base(tmp_path_factory):
    """Folder of a tiny GIT."""
    from transformers import GitConfig, GitForCausalLM

    folder = tmp_path_factory.mktemp("git")
    train_tokenizer([text for several in CAPTIONS for text in several], 300, folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32}  # fmt: skip
    torch.manual_seed(3)
    model = GitForCausalLM(
        GitConfig(
            **sizes, vocab_size=300, max_position_embeddings=64,
            vision_config={**sizes, "image_size": SIZE, "patch_size": 8},
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Assets and table of four pictures with one to three captions each."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("captioned")
    source = np.random.default_rng(1)
    for place, colour in enumerate(COLOURS):
        noise = source.normal(0, 30, (SIZE, SIZE, 3))
        pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    write_table(ROWS, folder / "rows.parquet")
    cache_shard(
        folder / "rows.parquet", shard=0, shards=1, size=SIZE, colour=True, verify=False,
        root=folder, cloud=None, pixels=folder / "shard-0.npy", index=folder / "shard-0.parquet",
    )  # fmt: skip
    index_shards(
        folder / "rows.parquet", [folder / "shard-0.parquet"], on_bad_image="fail",
        max_dropped_share=0, output=folder / "index.parquet", account=folder / "account.json",
    )  # fmt: skip
    return {"images": folder / "index.parquet"}, folder / "rows.parquet"


def task_of(train=ROWS, **settings):
    told = {"prompt": "", "max_tokens": 40, "max_new_tokens": 12, **settings}
    return Captioning(Settings(name="captioning", **told).model_dump(mode="json"), train)


def examples_of(study, base, **settings):
    assets, table = study
    return task_of(**settings).examples(table, assets, base)


def pixels_of(examples, base, place):
    return normalize_of(base)(examples.images[examples.positions[[place]]])


def by_transformers(model, pixels, answer):
    """The summed loss of one caption and its end, as transformers' own loss has it, alone."""
    loss = model(pixel_values=pixels, labels=torch.tensor([answer])).loss
    return loss * len(answer)


KINDS = pytest.mark.parametrize("kind", ["one_width", "projected"])


@KINDS
def test_loss_is_that_of_transformers_one_caption_at_a_time(captioners, study, kind):
    base = captioners[kind]
    examples, model = examples_of(study, base), load_model(base).eval()
    module = task_of().loss_module(model, base).eval()
    with torch.no_grad():
        expected = [
            sum(by_transformers(model, pixels_of(examples, base, n), a).item() for a in answers)
            for n, answers in enumerate(examples.answers)
        ]
        for place, loss in enumerate(expected):
            found = module(**examples.batch(np.array([place])))
            assert found.item() == pytest.approx(loss, rel=1e-5)
        whole = module(**examples.batch(np.arange(4)))
    assert whole.item() == pytest.approx(sum(expected), rel=1e-5)
    assert examples.weight(np.array([0, 2])) == sum(
        len(answer) for place in (0, 2) for answer in examples.answers[place]
    )


@KINDS
def test_gradient_with_several_captions_is_that_of_each_alone(captioners, study, kind):
    base = captioners[kind]
    examples, model = examples_of(study, base), load_model(base).eval()
    task_of().loss_module(model, base)(**examples.batch(np.array([0, 2]))).backward()
    together = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    # All that learns has a gradient, which data-parallel training waits for.
    assert together.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    for place in (0, 2):
        for answer in examples.answers[place]:
            by_transformers(model, pixels_of(examples, base, place), answer).backward()
    alone = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert together.keys() == alone.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-4)


def test_a_row_by_hand(captioners, study):
    base = captioners["one_width"]
    examples = examples_of(study, base, prompt="see")
    tokenizer = load_tokenizer(base)
    see, one, other, green = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("see", *CAPTIONS[0], CAPTIONS[1][0])
    )
    batch = examples.batch(np.array([0, 1]))
    rows = {name: values.tolist() for name, values in batch.items() if name != "image"}
    # Padding is told by length: the end, which is the padding token too, is supervised.
    start = len(see)
    assert rows["input_ids"][0] == [END, *see, *one, *other]
    assert rows["targets"][0] == [*one, END, *other, END]
    short = [*green, END]
    assert rows["targets"][1] == short + [-100] * (len(rows["targets"][0]) - len(short))
    # The first word of each is told by what comes before all of them.
    second = start + 1 + len(one)
    assert rows["sources"][0] == [
        *range(start, start + 1 + len(one)), start, *range(second, second + len(other)),
    ]  # fmt: skip
    assert rows["position_ids"][0] == [
        *range(start + 1 + len(one)), *range(start + 1, start + 1 + len(other)),
    ]  # fmt: skip
    assert examples.lengths.tolist()[0] == len(rows["position_ids"][0])
    assert batch["image"].shape == (2, SIZE, SIZE, 3)


def test_a_model_learns_its_captions_from_the_first_word_to_the_end(captioners, study):
    base = captioners["one_width"]
    table = ROWS.with_columns(report=pl.Series([[own[0]] for own in CAPTIONS]))
    assets, _ = study
    path = study[1].with_name("single.parquet")
    write_table(table, path)
    task = task_of()
    examples, model = task.examples(path, assets, base), load_model(base)
    module, every = task.loss_module(model, base).eval(), np.arange(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        module(**examples.batch(every)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        found = task.predictor(model, base, CPU)(examples, every)
    assert found["hypothesis"] == [own[0] for own in CAPTIONS]


@KINDS
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["", "see"])
def test_texts_are_those_of_generate_one_image_at_a_time(captioners, study, kind, beams, prompt):
    base = captioners[kind]
    task = task_of(num_beams=beams, prompt=prompt)
    examples = examples_of(study, base, prompt=prompt)
    found = task.predictor(load_model(base), base, CPU)(examples, np.arange(4))
    model, tokenizer = load_model(base).eval(), load_tokenizer(base)
    for place, answers in enumerate(examples.answers):
        pixels = pixels_of(examples, base, place)
        out = model.generate(
            pixel_values=pixels, decoder_input_ids=torch.tensor([examples.prompt]),
            max_new_tokens=12, num_beams=beams, do_sample=False,
        )  # fmt: skip
        written = out[0, len(examples.prompt) :]
        assert (
            found["hypothesis"][place]
            == tokenizer.decode(written, skip_special_tokens=True).strip()
        )
        with torch.no_grad():
            if not prompt:
                own = sum(by_transformers(model, pixels, answer).item() for answer in answers)
                assert found["nll"][place] == pytest.approx(own, rel=1e-5)
    assert any(found["hypothesis"])


def test_a_git_reads_several_captions_as_it_reads_each_alone(git_base, study, tmp_path):
    task, (assets, table) = task_of(prompt="see"), study
    flat = [(row, text) for row, own in zip("abcd", CAPTIONS, strict=True) for text in own]
    together = task.examples(table, assets, git_base)
    model = task.load_model(git_base)
    predict = task.predictor(task.load_model(git_base), git_base, CPU)
    module, losses = task.loss_module(model, git_base).eval(), dict.fromkeys("abcd", 0.0)
    found = predict(together, np.arange(4))
    for row, text in flat:
        one = ROWS.filter(pl.col("example_id") == row).with_columns(report=pl.lit(text))
        write_table(one, tmp_path / "one.parquet")
        alone = task.examples(tmp_path / "one.parquet", assets, git_base)
        assert "labels" in alone.batch(np.array([0]))
        told = predict(alone, np.array([0]))
        losses[row] += told["nll"][0]
        assert told["hypothesis"] == [found["hypothesis"]["abcd".index(row)]]
    assert found["nll"] == pytest.approx(list(losses.values()), rel=1e-5)
    with torch.no_grad():
        whole = module(**together.batch(np.arange(4))).item()
    assert whole == pytest.approx(sum(losses.values()), rel=1e-5)
    mean = predict(task.controls()["mean_image"].change(together, 0), np.arange(4))
    assert len(set(mean["hypothesis"])) == 1


def test_one_image_for_all_has_one_text_and_each_its_own_loss(captioners, study):
    base = captioners["projected"]
    task, examples = task_of(), examples_of(study, base)
    mean = task.controls()["mean_image"].change(examples, 0)
    predictor = task.predictor(load_model(base), base, CPU)
    found, one = predictor(mean, np.arange(4)), predictor(mean, np.array([2]))
    assert len(set(found["hypothesis"])) == 1
    assert one["hypothesis"] == found["hypothesis"][:1]
    assert one["nll"][0] == pytest.approx(found["nll"][2], rel=1e-5)
    pixels = normalize_of(base)(mean.same)
    model = load_model(base).eval()
    with torch.no_grad():
        own = sum(by_transformers(model, pixels, answer).item() for answer in examples.answers[2])
    assert found["nll"][2] == pytest.approx(own, rel=1e-5)
    # What was written of the mean image is not written of another one.
    again = predictor(examples, np.arange(4))["hypothesis"]
    assert (
        again == task.predictor(load_model(base), base, CPU)(examples, np.arange(4))["hypothesis"]
    )


def test_cached_states_of_the_encoder_give_the_loss_of_pixels(captioners, study, tmp_path):
    base = captioners["projected"]
    task, (assets, table) = task_of(), study
    of_pixels = task.examples(table, assets, base)
    frozen = task.frozen_features(base, CPU)
    with torch.no_grad():
        states = frozen(of_pixels.images.cache.pixels(np.arange(4)))
    assert states.shape == (4, 17, 24)
    np.save(tmp_path / "features.npy", states.numpy().astype(frozen.dtype))
    of_states = task.examples(table, {**assets, "features": tmp_path / "features.npy"}, base)
    module = task.loss_module(load_model(base), base).eval()
    with torch.no_grad():
        one, other = (module(**e.batch(np.arange(4))).item() for e in (of_pixels, of_states))
    assert one == pytest.approx(other, rel=2e-3)
    assert of_states.batch(np.arange(4))["image"].dtype == torch.float16


@pytest.mark.parametrize(
    ("targets", "alone"), [("text", True), ("all", False), ("vision_mlp", False)]
)
def test_arms_of_the_decoder_leave_the_encoder_alone(targets, alone):
    from peft_ablation.bases.architectures import architecture

    told = architecture("VisionEncoderDecoderModel", {})
    arm = LoraSettings(method="lora", targets=targets, learning_rate=1).model_dump(mode="json")
    method = open_method(arm)
    assert method.leaves_alone(told, Captioning.frozen_part, Captioning.heads) is alone


def test_an_adapter_reloads_as_it_was_by_peft_alone_and_merges(captioners, study, tmp_path):
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import VisionEncoderDecoderModel

    base = captioners["projected"]
    arm = LoraSettings(
        method="lora", targets=r"regex:decoder\..*\.(c_attn|c_proj|c_fc)", r=4, learning_rate=1
    )
    method = open_method(arm.model_dump(mode="json"))
    task, examples = task_of(), examples_of(study, base)
    model = method.apply(load_model(base), seed=0, heads=(), steps=10, batches=list)
    module, every = task.loss_module(model, base), np.arange(4)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    torch.manual_seed(0)
    for _ in range(20):
        loss = module.train()(**examples.batch(every))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    method.save(model, tmp_path / "model")
    model.eval()
    plain = VisionEncoderDecoderModel.from_pretrained(base)
    reloaded = PeftModel.from_pretrained(plain, tmp_path / "model").eval()
    pixels, answer = pixels_of(examples, base, 0), torch.tensor([examples.answers[0][1]])
    with torch.no_grad():
        ours, plain = (m(pixel_values=pixels, labels=answer).logits for m in (model, reloaded))
    # Up to rounding: the other has plain kernels.
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)
    kept, found = (get_peft_model_state_dict(m) for m in (model, reloaded))
    assert kept.keys() == found.keys()
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    apart = task.predictor(model, base, CPU)(examples, every)
    merged = method.load(task.load_model, base, tmp_path / "model")
    together = task.predictor(merged, base, CPU)(examples, every)
    assert together["hypothesis"] == apart["hypothesis"]
    assert together["nll"] == pytest.approx(apart["nll"], rel=1e-4)


def test_colours_are_shifted_as_grey_is():
    image = torch.randint(0, 256, (2, 6, 6, 3), dtype=torch.uint8)
    task = task_of(shift_augmentation=2)
    moved = []
    for batch in (image, *image.unbind(-1)):
        torch.manual_seed(4)
        moved.append(task.augment({"image": batch})["image"])
    assert torch.equal(moved[0], torch.stack(moved[1:], -1))
    assert not torch.equal(moved[0], image)


def test_training_in_two_jobs_is_training_in_one(captioners, study, tmp_path):
    assets, table = study
    arm = LoraSettings(method="lora", targets="text", r=2, learning_rate=0.01)
    told = {"epochs": 2, "batch_size": 2, "precision": "fp32", "threads": 1, "warmup": 0}

    def trained(each):
        settings = Train.model_validate({**told, "epochs_per_chunk": each}).model_dump(mode="json")
        given = RunInputs(
            task=task_of().settings, arm=arm.model_dump(mode="json", exclude={"base", "init_from"}),
            settings=settings, seed=0, base=captioners["projected"], train=table, val=table,
            assets=assets,
        )  # fmt: skip
        output = None
        for chunk in range(2 // each):
            previous, output = output, tmp_path / f"{each}-{chunk}"
            train_chunk(
                given=given, name="lora", chunk=chunk, previous=previous, tensorboard=None,
                checkpoints=tmp_path / f"{each}-{chunk}.ckpt", output=output,
            )  # fmt: skip
        return (output / "best" / "adapter_model.safetensors").read_bytes()

    assert trained(1) == trained(2)


def test_shuffled_gives_each_caption_another_image(captioners, study):
    examples = examples_of(study, captioners["one_width"])
    changed = task_of().shuffled(examples, 3)
    assert changed.texts == examples.texts == CAPTIONS
    assert sorted(changed.positions) == [0, 1, 2, 3]
    assert (changed.positions != examples.positions).all()


def test_baselines_are_the_commonest_caption_and_that_of_the_nearest_image(study):
    baseline = task_of().baselines()["constant_report"]
    # Of two images of four; all others are of one.
    assert baseline.columns == {"hypothesis": "A red field."}
    assert baseline.account == {"training_reports": 0.5}
    train, test = ROWS[:3], ROWS[3:]
    found = task_of(train).look_up(test, study[0])
    assert found.rows() == [("d", "A red field.")]


@pytest.mark.parametrize(
    ("settings", "headline", "names"),
    [
        ({}, "bleu", {"bleu"}),
        ({"measures": ["chrf"]}, "chrf", {"chrf"}),
        ({"measures": ["coco", "bleu"]}, "cider", {"cider", "meteor", "rouge_l", "bleu"}),
        ({"findings": "plain"}, "findings_f1", {"findings_f1", "bleu"}),
    ],
)
def test_measures_of_the_settings_are_measured(settings, headline, names):
    task = task_of(**settings)
    assert task.headline == headline
    found = {metric.name for metric in task.metrics}
    of_texts = {"bleu", "chrf", "cider", "meteor", "rouge_l", "findings_f1"}
    assert found & of_texts == names
    assert "test_loss" in found
    assert {claim.metric for claim in task.claims} <= found


def refusal(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def changed_base(base, folder, **changes):
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        if isinstance(value, Mapping):
            config[key] |= value
        else:
            config[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder_start_token_id": None, "decoder": {"bos_token_id": None}},
         "has no decoder_start_token_id, which a text starts from"),
        ({"decoder": {"n_positions": 20}}, "has 20 positions; set them lower"),
        ({"encoder": {"image_size": 64}}, "set images.size: 64"),
    ],
)  # fmt: skip
def test_a_base_that_does_not_fit_is_one_line(captioners, study, tmp_path, changes, told):
    base = changed_base(captioners["one_width"], tmp_path / "base", **changes)
    assert told in refusal(examples_of, study, base)


def test_another_decoder_is_one_line(captioners, tmp_path):
    base = changed_base(captioners["one_width"], tmp_path / "base", decoder={"model_type": "opt"})
    assert "decoder.model_type is 'opt', expected 'gpt2'" in refusal(load_model, base)


def test_a_tokenizer_without_an_end_is_one_line(captioners, study, tmp_path):
    from transformers import AutoTokenizer

    base = changed_base(captioners["one_width"], tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(base)
    assert "its tokenizer has no eos_token" in refusal(examples_of, study, base)


@pytest.mark.parametrize(("captions", "what"), [([[" "]], "an empty"), ([[]], "no")])
def test_an_image_without_a_caption_is_one_line(captioners, study, tmp_path, captions, what):
    rows = ROWS[:1].with_columns(report=pl.Series(captions, dtype=pl.List(pl.String)))
    write_table(rows, tmp_path / "rows.parquet")
    told = refusal(examples_of, (study[0], tmp_path / "rows.parquet"), captioners["one_width"])
    assert f"found {what} text of the image" in told


def test_findings_of_several_texts_are_refused(captioners, study):
    with pytest.raises(InputError, match="findings are read from one report an image"):
        examples_of(study, captioners["one_width"], findings="plain")


def test_published_defects_of_labels_need_labels(captioners, study):
    from peft_ablation.as_published.protocol import Protocol

    arm = {"as_published": {"labels_shifted_twice": True}}
    train = Protocol(arm, {"max_tokens": 40}).train(examples_of(study, captioners["one_width"]))
    assert "leave its defects of texts out" in refusal(train.batch, np.arange(2))


def test_captions_that_are_too_long_are_counted_or_cut(captioners, study):
    base = captioners["one_width"]
    whole = examples_of(study, base)
    sizes = [1 + len(answer) for own in whole.answers for answer in own]
    limit = max(sizes) - 1
    longer = sum(size > limit for size in sizes)
    with pytest.raises(InputError, match=re.escape(f"is {limit}, but {longer} of 8 texts")):
        examples_of(study, base, max_tokens=limit)
    cut = examples_of(study, base, max_tokens=limit, too_long="cut")
    assert cut.answers == [[answer[: limit - 1] for answer in own] for own in whole.answers]
