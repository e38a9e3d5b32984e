"""Memory of a training step: what the formula says, what is measured, what becomes of failures."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_study import TinyStudy, task_of

from peft_ablation.artifacts import write_table
from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.config.study import Train
from peft_ablation.errors import InputError
from peft_ablation.methods import method_class, open_method
from peft_ablation.tasks import open_task, task_class
from peft_ablation.tasks.text_generation import Settings, TextGeneration
from peft_ablation.tasks.text_generation.examples import WrittenExamples, load_tokenizer
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.memory import alone, configurations, measure_memory
from peft_ablation.training.memory.expected import held_mb, state_bytes
from peft_ablation.training.memory.failures import is_out_of_memory, what_failed
from peft_ablation.training.memory.measured import DeviceMemory, KeptForBackward, measured

torch.set_num_threads(1)
MB = 1e6
LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "tie_word_embeddings": True,
}  # fmt: skip
ROWS = pl.DataFrame(
    {
        "example_id": ["a", "b", "c", "d"],
        "prompt": ["a cheap pub", "food: Thai", "an inn near the river, dear", "x"],
        "reference": ["It is cheap.", "Thai food.", "By the river there is a dear inn.", "No."],
    }
)


def llama(**changed: Any) -> Any:
    """Llama-3.2-1B on the meta device, where no weight is made."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**{**LLAMA_1B, **changed}))


def arm_of(method: str, **settings: Any) -> dict[str, Any]:
    told = {"method": method, "learning_rate": 1e-3, **settings}
    return method_class(method).Settings.model_validate(told).model_dump(mode="json")


# -- the formula -----------------------------------------------------------------------------------


def held(method: str, **settings: Any) -> dict[str, float]:
    """Megabytes that training Llama-3.2-1B holds, computed on the meta device."""
    weights = open_method(arm_of(method, **settings)).expected_weights(llama(), heads=(), steps=10)
    return {**held_mb(weights), "optimizer": state_bytes(weights.trained) / MB}


LORA = {"targets": "all", "r": 64, "alpha": 16, "dropout": 0.1}


def test_lora_of_rank_64_on_llama_by_hand() -> None:
    """45,088,768 numbers are 180 MB, as much are their gradients, Adam keeps two of each."""
    found = held("lora", **LORA)
    assert found["frozen"] == pytest.approx(1_235_814_400 * 4 / MB)
    assert found["trained"] == found["gradients"] == pytest.approx(180.355072)
    assert found["optimizer"] == pytest.approx(360.710144, abs=0.01)


def test_full_fine_tuning_of_llama_by_hand() -> None:
    found = held("full")
    assert found["frozen"] == 0
    assert found["trained"] == found["gradients"] == pytest.approx(4943.2576)
    assert found["optimizer"] == pytest.approx(9886.5152, abs=0.01)


@pytest.mark.parametrize(("batch", "length", "megabytes"), [(16, 128, 1050.67), (3, 256, 394.00)])
def test_logits_of_llama_by_hand(batch: int, length: int, megabytes: float) -> None:
    """Every position supervised: batch × length × 128,256 words × 4 bytes."""
    told = [[1] * length]
    examples = WrittenExamples(["a"] * batch, [[1]] * batch, [told] * batch, [["x"]] * batch)
    task = TextGeneration(Settings(name="text_generation").model_dump(), ROWS)
    found = task.logits(llama(), examples, np.arange(batch))
    assert found * 4 / MB == pytest.approx(megabytes, abs=0.01)


def test_weights_that_follow_from_data_are_not_guessed() -> None:
    eva = open_method(arm_of("lora", **{**LORA, "init": "eva"}))
    model = llama(num_hidden_layers=1, vocab_size=50).to_empty(device="cpu")
    with pytest.raises(NotImplementedError, match="method lora: its weights follow from data"):
        eva.expected_weights(model, heads=(), steps=10)


# -- what is measured ------------------------------------------------------------------------------


def test_kept_for_backward_by_hand() -> None:
    """Five rows of four numbers, the input of two layers, and five rows of three that ReLU gave."""

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.first(rows)).sum() + self.second(rows).sum()

    module = Two()
    counted = KeptForBackward(module)
    module(torch.ones(5, 4)).backward()
    assert counted.close() == 5 * 4 * 4 + 5 * 3 * 4
    module(torch.ones(50, 4))
    assert counted.close() == 5 * 4 * 4 + 5 * 3 * 4


def test_the_peak_on_a_cpu_is_what_was_held_at_most() -> None:
    memory = DeviceMemory(torch.device("cpu"))
    memory.begin()
    memory.forget_peak()
    held = torch.ones(16 * 2**20)
    del held
    assert 63 * 2**20 < memory.peak() < 80 * 2**20
    memory.forget_peak()
    assert memory.peak() < 16 * 2**20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 100,000 parameters with a tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    train_tokenizer([*ROWS["prompt"], *ROWS["reference"]], 300, folder)
    words = len(load_tokenizer(folder))
    torch.manual_seed(1)
    config = GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=64, vocab_size=words)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "train.parquet"
    write_table(ROWS, path)
    return path


def inputs(base: Path, train: Path, arm: dict[str, Any], **settings: Any) -> RunInputs:
    told = {"epochs": 5, "precision": "fp32", "threads": 1, "batch_size": 2, **settings}
    return RunInputs(
        task=Settings(name="text_generation", max_tokens=60, max_new_tokens=4).model_dump(),
        arm=arm, settings=Train.model_validate(told).model_dump(mode="json"), seed=0, base=base,
        train=train, val=train, assets={},
    )  # fmt: skip


SMALL = {"targets": "query_key_value", "r": 4}


def test_a_larger_batch_keeps_in_proportion_and_peaks_higher(base: Path, train: Path) -> None:
    small, large = (
        measured(
            inputs(base, train, arm_of("lora", **SMALL), batch_size=size),
            batch_size=size,
            length=60,
        )
        for size in (8, 128)
    )
    # All but the causal mask is by example.
    assert large["kept_for_backward_mb"] == pytest.approx(
        16 * small["kept_for_backward_mb"], rel=0.02
    )
    assert large["peak_mb"] > small["peak_mb"] + small["kept_for_backward_mb"]
    assert large["peak_mb"] > 0.9 * large["kept_for_backward_mb"]


@pytest.mark.parametrize("length", [1, 2, 17, 64])
def test_made_up_texts_have_the_length_and_the_share_that_is_supervised(
    length: int, base: Path, train: Path
) -> None:
    given = inputs(base, train, arm_of("full"))
    task = TextGeneration(given.task, ROWS)
    real = task.examples(train, {}, base)
    made = task.of_length(real, base, count=3, length=length)
    assert made.lengths.tolist() == [length] * 3
    assert made.batch(np.arange(3))["input_ids"].shape == (3, length)
    share = real.weights.sum() / real.lengths.sum()
    assert made.weights[0] == pytest.approx(share * length, abs=1)


def test_a_length_beyond_the_context_is_refused(base: Path, train: Path) -> None:
    task = TextGeneration(inputs(base, train, arm_of("full")).task, ROWS)
    with pytest.raises(InputError, match=r"memory\.lengths: found 65, .* context of 64 tokens"):
        task.of_length(task.examples(train, {}, base), base, count=1, length=65)


def test_texts_of_images_have_the_length_too(tiny_study: TinyStudy) -> None:
    task = open_task(task_of(), tiny_study.split("train"))
    real = task.examples(tiny_study.split("train"), {"images": tiny_study.index}, tiny_study.base)
    made = task.of_length(real, tiny_study.base, count=3, length=40)
    batch = made.batch(np.arange(3))
    assert batch["input_ids"].shape == (3, 40)
    assert (
        (batch["labels"] != -100).sum() == made.weight(np.arange(3)) == 3 * (40 - len(real.prompt))
    )
    assert len(batch["image"]) == 3
    with pytest.raises(InputError, match=r"memory\.lengths: found 1, but the prompt alone has"):
        task.of_length(real, tiny_study.base, count=3, length=1)


def test_examples_without_a_length_are_measured_by_batch_size() -> None:
    settings = task_class("image_classification").Settings(name="image_classification")
    task = task_class("image_classification")(settings.model_dump(), pl.DataFrame())
    with pytest.raises(InputError, match=r"memory\.lengths: examples of task image_classification"):
        task.of_length(None, "base", count=3, length=40)


# -- configurations and what becomes of them -------------------------------------------------------


def test_every_combination_is_measured_once(base: Path, train: Path) -> None:
    runs = {name: inputs(base, train, arm_of("full")) for name in ("a", "b")}
    lists = {"batch_sizes": [1, 2], "lengths": [3, 4, 5], "gradient_checkpointing": [False, True]}
    found = configurations(lists, runs)
    assert len(found) == len({repr(one) for one in found}) == 2 * 2 * 3 * 2
    one = {"batch_sizes": [1], "lengths": None, "gradient_checkpointing": None}
    (only, _) = configurations(one, runs)
    assert (only.arm, only.batch_size, only.length) == ("a", 1, None)
    assert only.settings["gradient_checkpointing"] is False


def test_a_failed_allocation_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60)
    refused = InputError("out of memory with a micro-batch of 1")
    refused.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    for error in (real.value, MemoryError(), refused):
        assert is_out_of_memory(error)
        assert what_failed(error)["status"] == "out of memory"
    assert what_failed(InputError("a line"))["status"] == "refused"
    assert what_failed(ValueError("a\nb")) == {"status": "failed", "reason": "ValueError: a"}
    assert not is_out_of_memory(ValueError("out of memory"))


STARVING = """
import torch
from peft_ablation.methods.full import Full

class Starving(Full):
    def after_step(self, model, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

METHOD = Starving
"""


def test_out_of_memory_is_a_row_and_the_others_are_measured(
    base: Path, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up_methods"
    package.mkdir()
    (package / "starving.py").write_text(STARVING)
    monkeypatch.syspath_prepend(str(tmp_path))
    arms = {"starving": arm_of("made_up_methods.starving"), "lora": arm_of("lora", **SMALL)}
    runs = {name: inputs(base, train, arm) for name, arm in arms.items()}
    memory = {"batch_sizes": [2], "lengths": None, "gradient_checkpointing": None}
    measure_memory(runs, memory=memory, output=tmp_path / "memory.csv")
    rows = {row["arm"]: row for row in pl.read_csv(tmp_path / "memory.csv").rows(named=True)}
    statuses = {name: row["status"] for name, row in rows.items()}
    assert statuses == {"starving": "out of memory", "lora": "measured"}
    assert rows["starving"]["reason"] == "CUDA out of memory"
    assert rows["starving"]["peak_mb"] is None
    assert rows["lora"]["peak_mb"] > 0
    # c_attn of two layers: r (64 + 192) numbers each, four bytes.
    assert rows["lora"]["expected_trained_mb"] == pytest.approx(2 * 4 * 256 * 4 / MB)
    # Starving trains every weight, and Adam's two moments of each are expected all the same.
    assert rows["starving"]["expected_optimizer_mb"] == pytest.approx(
        2 * rows["starving"]["expected_trained_mb"], rel=0.01
    )
    assert rows["starving"]["expected_frozen_mb"] == 0
    parts = [v for k, v in rows["lora"].items() if k.startswith("expected_") and k != "expected_mb"]
    assert rows["lora"]["expected_mb"] == pytest.approx(sum(parts))


def test_a_process_that_is_ended_from_outside_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "sitecustomize.py").write_text(end)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert alone("measured", {})["status"] == "ended by SIGKILL"


def test_where_everything_is_refused_the_input_is_wrong(
    base: Path, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [{"status": "refused", "reason": "a line"}, {"status": "out of memory", "reason": "x"}]
    found = iter([told[0], told[0], told[1], told[0], told[0], told[0]])
    monkeypatch.setattr("peft_ablation.training.memory.alone", lambda *_: next(found))
    memory = {"batch_sizes": [2, 3], "lengths": None, "gradient_checkpointing": None}
    runs = {"fft": inputs(base, train, arm_of("full"))}
    measure_memory(runs, memory=memory, output=tmp_path / "m.csv")
    assert pl.read_csv(tmp_path / "m.csv")["status"].to_list() == ["refused", "out of memory"]
    with pytest.raises(InputError, match="a line"):
        measure_memory(runs, memory=memory, output=tmp_path / "n.csv")
    assert not (tmp_path / "n.csv").exists()
