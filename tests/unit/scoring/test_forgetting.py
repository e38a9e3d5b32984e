"""Forgetting: against the untouched base, with the loss of transformers; drift of the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import t as student
from tiny_study import SIZE, TinyStudy, arm_of, task_of
from transformers import GitForCausalLM, LlamaConfig, LlamaForCausalLM

from peft_ablation.artifacts import write_json
from peft_ablation.bases.pixels import Normalize
from peft_ablation.bases.schematic import draw_captioned, hold_out
from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.comparison.forgetting import compare_forgetting, forgetting_blocks
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.words import Words
from peft_ablation.data.images import ImageCache
from peft_ablation.figures.forgetting import plot_forgetting
from peft_ablation.methods import open_method
from peft_ablation.scoring.drift import weight_drift
from peft_ablation.scoring.forgetting import write_forgetting
from peft_ablation.tasks import open_task, task_class
from peft_ablation.tasks.captioning.examples import load_tokenizer

COUNT = 24
TASK = task_of(max_new_tokens=16)
ARMS = {
    "untouched": arm_of({"method": "none"}),
    "lora": arm_of({"method": "lora", "targets": "text", "r": 4, "learning_rate": 1e-3}),
    "fft": arm_of({"method": "full", "learning_rate": 1e-3}),
    "beside": arm_of(
        {"method": "peft", "type": "fourierft", "targets": "text", "learning_rate": 1e-3,
         "settings": {"n_frequency": 10}}
    ),
}  # fmt: skip
RUNS = [("untouched", 0), ("lora", 0), ("fft", 0), ("fft", 1), ("beside", 0)]


class Forgotten:
    """What `write_forgetting` and `compare_forgetting` write for the runs above."""

    def __init__(self, study: TinyStudy, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.examples = folder / "examples.parquet"
        self.index = folder / "images" / "index.parquet"
        hold_out(
            COUNT, size=SIZE, seed=1, examples=self.examples, index=self.index,
            pixels=folder / "images" / "shard-0.npy",
        )  # fmt: skip
        self.models = [folder / "models" / f"{arm}-{seed}" for arm, seed in RUNS]
        self.before = folder / "before.parquet"
        self.after = [folder / f"{arm}-{seed}.parquet" for arm, seed in RUNS]
        self.drift, self.table = folder / "drift.csv", folder / "forgetting.csv"
        self.task = open_task(TASK, study.split("train"))
        self._make_models()
        write_forgetting(
            task=TASK, arms=ARMS, runs=RUNS, models=self.models, bases=[study.base] * len(RUNS),
            train=study.split("train"), examples=self.examples, assets={"images": self.index},
            precision="fp32", threads=1, batch_size=8, before={str(study.base): self.before},
            after=self.after, drift=self.drift,
        )  # fmt: skip
        compare_forgetting(
            runs=RUNS, before=[self.before] * len(RUNS), after=self.after, drift=self.drift,
            task=TASK, train=study.split("train"), confidence=0.95, output=self.table,
        )  # fmt: skip
        self.rows = {row["arm"]: row for row in pl.read_csv(self.table).to_dicts()}

    def _make_models(self) -> None:
        """A LoRA before its first step (B is 0), and weights that are moved by 5 and 10 %."""
        for (arm, seed), folder in zip(RUNS, self.models, strict=True):
            folder.mkdir(parents=True)
            method = open_method(ARMS[arm])
            model = self.task.load_model(self.study.base)
            ready = method.apply(
                model, seed=seed, heads=(), steps=1, batches=lambda: iter(()), state=None
            )
            if arm == "fft":
                with torch.no_grad():
                    for parameter in ready.parameters():
                        parameter.mul_(1.05 + 0.05 * seed)
            method.save(ready, folder)

    def loss(self, folder: Path) -> float:
        """The loss that transformers gives a model folder on all held-out examples, a batch."""
        model = GitForCausalLM.from_pretrained(folder).eval()
        tokenizer, cache = load_tokenizer(self.study.base), ImageCache(self.index)
        rows = pl.read_parquet(self.examples)
        prompt = [tokenizer.cls_token_id]
        prompt += tokenizer.encode(TASK["prompt"], add_special_tokens=False)
        texts = [
            [*prompt, *tokenizer.encode(text, add_special_tokens=False), tokenizer.sep_token_id]
            for text in rows["report"]
        ]
        longest = max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        labels = torch.tensor([text + [-100] * (longest - len(text)) for text in texts])
        labels[:, : len(prompt)] = -100
        pixels = torch.from_numpy(cache.pixels(cache.position(rows["example_id"].to_list())))
        with torch.no_grad():
            found = model(
                input_ids=ids, attention_mask=(ids != 0).long(), labels=labels,
                pixel_values=Normalize.of(self.study.base)(pixels),
            )  # fmt: skip
        return float(found.loss)


@pytest.fixture(scope="module")
def forgotten(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Forgotten:
    return Forgotten(tiny_study, tmp_path_factory.mktemp("forgotten"))


@pytest.mark.parametrize("arm", ["untouched", "lora"])
def test_what_is_not_trained_forgets_exactly_nothing(forgotten: Forgotten, arm: str) -> None:
    row = forgotten.rows[arm]
    for metric in ("bleu", "findings_f1", "test_loss"):
        assert row[f"{metric}_change"] == 0, metric
        assert row[f"{metric}_change_low"] == row[f"{metric}_change_high"] == 0, metric
    assert [row["drift"], row["drift_text"], row["drift_vision"]] == [0, 0, 0]


def test_before_is_the_loss_of_transformers_on_the_base(forgotten: Forgotten) -> None:
    """Fails where labels are not shifted, or shifted twice, and where an adapted model is taken."""
    expected = forgotten.loss(forgotten.study.base)
    for row in forgotten.rows.values():
        assert row["test_loss_before"] == pytest.approx(expected, rel=1e-5)


def test_a_changed_model_has_another_loss_which_is_that_of_transformers(
    forgotten: Forgotten,
) -> None:
    losses = [forgotten.loss(forgotten.models[place]) for place in (2, 3)]
    row, before = forgotten.rows["fft"], forgotten.loss(forgotten.study.base)
    by_seed = [float(value) for value in row["test_loss_change_by_seed"].split()]
    assert by_seed == pytest.approx([loss - before for loss in losses], abs=2e-5)
    assert all(abs(value) > 1e-3 for value in by_seed)
    assert row["test_loss_change"] == pytest.approx(np.mean(by_seed))
    assert row["test_loss_change_low"] < row["test_loss_change"] < row["test_loss_change_high"]


def test_a_change_is_paired_by_example(forgotten: Forgotten) -> None:
    """One run: the interval is Student's, of the paired jackknife pseudo-values."""
    before, after = (pl.read_parquet(p) for p in (forgotten.before, forgotten.after[2]))
    tokens = before["tokens"].to_numpy()

    def pseudo(table: pl.DataFrame) -> np.ndarray:
        nll = table["nll"].to_numpy()
        whole = nll.sum() / tokens.sum()
        return COUNT * whole - (COUNT - 1) * (nll.sum() - nll) / (tokens.sum() - tokens)

    differences = pseudo(after) - pseudo(before)
    reach = student.ppf(0.975, COUNT - 1) * differences.std(ddof=1) / COUNT**0.5
    output = forgotten.folder / "one.csv"
    compare_forgetting(
        runs=[("fft", 0)], before=[forgotten.before], after=[forgotten.after[2]],
        drift=forgotten.drift, task=TASK, train=forgotten.study.split("train"), confidence=0.95,
        output=output,
    )  # fmt: skip
    (row,) = pl.read_csv(output).to_dicts()
    width = row["test_loss_change_high"] - row["test_loss_change_low"]
    assert width == pytest.approx(2 * reach)


def test_each_run_is_compared_with_its_own_base(forgotten: Forgotten) -> None:
    """As where each seed starts from another run: two bases that differ, and nothing forgotten."""
    output = forgotten.folder / "own.csv"
    compare_forgetting(
        runs=RUNS[2:4], before=forgotten.after[2:4], after=forgotten.after[2:4],
        drift=forgotten.drift, task=TASK, train=forgotten.study.split("train"), confidence=0.95,
        output=output,
    )  # fmt: skip
    (row,) = pl.read_csv(output).to_dicts()
    assert [row[f"test_loss_change{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]


def test_an_adapter_beside_the_weights_has_no_drift(forgotten: Forgotten) -> None:
    row = forgotten.rows["beside"]
    assert [row["drift"], row["drift_text"], row["drift_vision"]] == [None, None, None]
    assert row["test_loss_change"] != 0


def test_drift_is_the_length_of_the_change_over_that_of_the_base(forgotten: Forgotten) -> None:
    """All weights times 1.05 and 1.1: each group has moved by 0.05 and 0.1, on average 0.075."""
    row = forgotten.rows["fft"]
    for column in ("drift", "drift_text", "drift_vision"):
        assert row[column] == pytest.approx(0.075, rel=1e-3), column


def test_a_merged_adapter_moves_its_own_tower_alone(forgotten: Forgotten) -> None:
    """The change of a layer is alpha / r · B A; its norm over that of the tower is the drift."""
    method = open_method(ARMS["lora"])
    base = forgotten.task.load_model(forgotten.study.base)
    ready: Any = method.apply(
        forgotten.task.load_model(forgotten.study.base), seed=0, heads=(), steps=1,
        batches=lambda: iter(()), state=None,
    )  # fmt: skip
    moved = 0.0
    with torch.no_grad():
        for _, layer in ready.named_modules():
            if hasattr(layer, "lora_A") and hasattr(layer, "scaling"):
                layer.lora_B["default"].weight.fill_(0.01)
                change = layer.scaling["default"] * (
                    layer.lora_B["default"].weight @ layer.lora_A["default"].weight
                )
                moved += float(change.square().sum())
    folder = forgotten.folder / "moved"
    folder.mkdir()
    method.save(ready, folder)
    found = weight_drift(method.load(forgotten.task.load_model, forgotten.study.base, folder), base)
    tower = [
        p.detach() for n, p in base.named_parameters()
        if n.startswith("git.encoder.layer.") and "LayerNorm" not in n
    ]  # fmt: skip
    expected = (moved / float(sum(p.square().sum() for p in tower))) ** 0.5
    assert found["text"] == pytest.approx(expected, rel=1e-4)
    assert found["vision"] == 0
    assert 0 < found["all"] < found["text"]


def test_held_out_images_are_those_of_no_epoch(tmp_path: Path) -> None:
    hold_out(
        40, size=32, seed=3, examples=tmp_path / "examples.parquet",
        index=tmp_path / "index.parquet", pixels=tmp_path / "shard-0.npy",
    )  # fmt: skip
    held_out = np.load(tmp_path / "shard-0.npy")
    seen = {image.tobytes() for epoch in range(8) for image in draw_captioned(40, 32, 3, epoch)[0]}
    assert not seen & {image.tobytes() for image in held_out}


def test_page_and_figure_show_it(forgotten: Forgotten, tmp_path: Path) -> None:
    said = Words.of(forgotten.task, "subject")
    page = markdown(forgetting_blocks(forgotten.table, said))
    assert "| untouched |" in page
    assert "| vision, moved by |" in page
    assert "Not measured." in markdown(forgetting_blocks(None, said))
    rows = [
        {"arm": arm, "findings_f1": 0.4, "findings_f1_low": 0.3, "findings_f1_high": 0.5}
        for arm in ARMS
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "comparison.csv")
    write_json(tmp_path / "words.json", said.as_json())
    outputs = [tmp_path / f"forgetting.{end}" for end in ("svg", "png", "csv")]
    plot_forgetting(
        forgotten.table, comparison=tmp_path / "comparison.csv", words=tmp_path / "words.json",
        outputs=outputs,
    )  # fmt: skip
    drawn = pl.read_csv(outputs[2])
    assert drawn["arm"].to_list() == list(ARMS)
    assert drawn["test_loss_change"][2] == forgotten.rows["fft"]["test_loss_change"]
    assert all(path.stat().st_size for path in outputs)


class Stories:
    """A Llama of random weights, what it is told to go on from, and a copy that has changed."""

    PROMPTS = ("Once there was a cat", "The dog ran", "A bird", "One day")
    ENDS = ("It sat.", "It ran far away.", "It flew over the house.", "No.")

    def __init__(self, folder: Path) -> None:
        self.base, self.model = folder / "llama", folder / "run"
        self.examples, self.before = folder / "stories.parquet", folder / "before.parquet"
        self.after, self.drift = folder / "after.parquet", folder / "drift.csv"
        train_tokenizer([*self.PROMPTS, *self.ENDS], 300, self.base)
        self.tokenizer = load_tokenizer(self.base)
        config = LlamaConfig(
            vocab_size=len(self.tokenizer), hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=96,
            bos_token_id=0, eos_token_id=3, pad_token_id=1,
        )  # fmt: skip
        torch.manual_seed(7)
        model = LlamaForCausalLM(config)
        model.save_pretrained(self.base)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
        model.save_pretrained(self.model)
        ids = [f"story {number}" for number in range(len(self.PROMPTS))]
        rows = pl.DataFrame(
            {"example_id": ids, "group": ids, "prompt": self.PROMPTS, "reference": self.ENDS}
        )
        rows.write_parquet(self.examples)
        told = {"name": "text_generation", "max_tokens": 90, "max_new_tokens": 4}
        write_forgetting(
            task=task_class("text_generation").Settings.model_validate(told).model_dump(mode="json"),
            arms={"fft": ARMS["fft"]}, runs=[("fft", 0)], models=[self.model], bases=[self.base],
            train=self.examples, examples=self.examples, assets={}, precision="fp32", threads=1,
            batch_size=3, before={str(self.base): self.before}, after=[self.after],
            drift=self.drift,
        )  # fmt: skip

    def loss(self, folder: Path) -> float:
        """The loss of transformers on all ends of stories, one story at a time."""
        model, summed, count = LlamaForCausalLM.from_pretrained(folder).eval(), 0.0, 0
        for begin, end in zip(self.PROMPTS, self.ENDS, strict=True):
            prompt = [0, *self.tokenizer.encode(begin, add_special_tokens=False)]
            answer = [*self.tokenizer.encode(f" {end}", add_special_tokens=False), 3]
            ids = torch.tensor([[*prompt, *answer]])
            labels = torch.tensor([[-100] * len(prompt) + answer])
            with torch.no_grad():
                summed += float(model(input_ids=ids, labels=labels).loss) * len(answer)
            count += len(answer)
        return summed / count


def test_stories_before_and_after_have_the_losses_of_transformers(tmp_path: Path) -> None:
    stories = Stories(tmp_path)
    for path, folder in ((stories.before, stories.base), (stories.after, stories.model)):
        table = pl.read_parquet(path)
        loss = table["nll"].sum() / table["tokens"].sum()
        assert loss == pytest.approx(stories.loss(folder), rel=1e-5)
    assert stories.loss(stories.base) != pytest.approx(stories.loss(stories.model), rel=1e-3)
    assert pl.read_csv(stories.drift)["drift"].to_list() == pytest.approx([1.0])
