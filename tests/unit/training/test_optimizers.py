"""Optimizers by name: which they are, their groups, their states, and where they are refused."""

import sys
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from accelerate import Accelerator
from methods_matrix import TINY, _llama, bound

from peft_ablation.errors import InputError
from peft_ablation.training.checkpoint import optimizer_of, protocol_of
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.optimizers import make_optimizer
from peft_ablation.training.processes import Processes
from peft_ablation.training.steps import Steps

OF_BITSANDBYTES = ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def parameter(elements: int, seed: int = 0) -> torch.nn.Parameter:
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.Parameter(torch.randn(elements, generator=draw))


def stepped(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, steps: range) -> None:
    for step in steps:
        draw = torch.Generator().manual_seed(100 + step)
        parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "paged_adamw_32bit"])
def test_a_step_is_that_of_adamw_with_each_group_s_own_rate_and_decay(name: str) -> None:
    slow, fast = parameter(5000, 1), parameter(5000, 2)
    expected = [p.detach().double() for p in (slow, fast)]
    groups = [
        {"params": [slow], "weight_decay": 0.1}, {"params": [fast], "weight_decay": 0.0},
    ]  # fmt: skip
    optimizer = make_optimizer(name, groups, 1.0)
    moments = [[torch.zeros(5000, dtype=torch.float64) for _ in range(2)] for _ in range(2)]
    for step in range(3):
        for group, rate in zip(optimizer.param_groups, (1e-3, 16e-3), strict=True):
            group["lr"] = rate
        for index, own in enumerate((slow, fast)):
            draw = torch.Generator().manual_seed(10 * step + index)
            own.grad = torch.randn(5000, generator=draw)
            # Loshchilov & Hutter 2019, algorithm 2, in float64.
            gradient, (first, second) = own.grad.double(), moments[index]
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            rate, decay = ((1e-3, 0.1), (16e-3, 0.0))[index]
            root = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            change = first / (1 - 0.9 ** (step + 1)) / root
            expected[index] = expected[index] * (1 - rate * decay) - rate * change
        optimizer.step()
    for own, wanted in zip((slow, fast), expected, strict=True):
        assert torch.allclose(own.detach().double(), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_states_of_8_bits_follow_adamw_closely_but_are_a_quarter_of_its_size(name: str) -> None:
    own, exact = parameter(8192), parameter(8192)
    optimizer = make_optimizer(name, [{"params": [own], "weight_decay": 0.0}], 1e-3)
    stepped(optimizer, own, range(5))
    stepped(torch.optim.AdamW([exact], lr=1e-3, weight_decay=0.0), exact, range(5))
    assert 0 < float((own - exact).detach().abs().max()) < 3e-3
    (state,) = optimizer.state.values()
    assert {state[key].dtype for key in ("state1", "state2")} == {torch.uint8}


@pytest.mark.parametrize("elements", [64, 8192, 120_000])
@pytest.mark.parametrize("name", OF_BITSANDBYTES)
def test_a_state_read_without_pickled_code_goes_on_to_the_same_bits(
    name: str, elements: int, tmp_path: Path
) -> None:
    """120,000 elements are more than what bitsandbytes keeps out of pages."""
    whole, own = parameter(elements), parameter(elements)
    given: dict[str, Any] = {"weight_decay": 0.01}
    stepped(make_optimizer(name, [{"params": [whole], **given}], 1e-3), whole, range(6))
    before = make_optimizer(name, [{"params": [own], **given}], 1e-3)
    stepped(before, own, range(3))
    torch.save(before.state_dict(), tmp_path / "optimizer.pt")
    resumed = torch.nn.Parameter(own.detach().clone())
    after = make_optimizer(name, [{"params": [resumed], **given}], 1.0)
    after.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    stepped(after, resumed, range(3, 6))
    assert torch.equal(resumed, whole)


def test_the_default_is_torch_s_fused_adamw() -> None:
    optimizer = make_optimizer(optimizer_of({}), [{"params": [parameter(4)]}], 1e-3)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["fused"] is True


def test_loraplus_keeps_its_ratio_with_an_optimizer_of_bitsandbytes() -> None:
    method = bound({"method": "lora", "targets": "attention", "loraplus": 16, "dropout": 0.0})
    model = method.apply(_llama(), seed=3, heads=(), steps=1, batches=lambda: iter(()))
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    tiny = TINY["Llama"]

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **batch: torch.Tensor) -> torch.Tensor:
            return tiny.loss(self.model, batch)

    class Examples:
        def weight(self, indices: Any) -> int:
            return 1

    class Task:
        def augment(self, batch: Any) -> Any:
            return batch

    settings = {
        "optimizer": "paged_adamw_32bit", "weight_decay": 0.0, "batch_size": 8,
        "micro_batch_size": None, "schedule": "constant", "warmup": 0.0, "max_grad_norm": 1.0,
    }  # fmt: skip
    steps = Steps(
        Processes(Accelerator(cpu=True)), task=Task(), method=method, model=model, module=Loss(),
        examples=Examples(), settings=settings, peak=1e-3, seed=0, total=1,
    )  # fmt: skip
    steps.take(0, [0], tiny.batch(0))
    moved = {
        n: float((p.detach() - before[n]).abs().max())
        for n, p in model.named_parameters() if n in before
    }  # fmt: skip
    # Adam's first step is the learning rate in every element that has a gradient; A has none yet.
    assert all(moved[n] == pytest.approx(16e-3, rel=0.03) for n in moved if "lora_B" in n)
    assert {moved[n] for n in moved if "lora_A" in n} == {0.0}


def test_an_optimizer_of_bitsandbytes_without_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for name in OF_BITSANDBYTES:
        with pytest.raises(InputError, match=f"train.optimizer: {name}: needs the pack") as told:
            make_optimizer(name, [{"params": [parameter(4)]}], 1e-3)
        assert "\n" not in str(told.value)


def test_defaults_that_came_later_are_in_no_fingerprint() -> None:
    """Else runs that were trained before these settings came would be trained again."""
    given = {"epochs": 3, "optimizer": "adamw", "gradient_checkpointing": False, "seeds": [0]}
    assert protocol_of(given) == {"epochs": 3}
    other = {"optimizer": "adamw_8bit", "gradient_checkpointing": True}
    assert protocol_of({**given, **other}) == {"epochs": 3, **other}


def test_the_release_of_bitsandbytes_is_part_of_what_it_computes(tmp_path: Path) -> None:
    table = tmp_path / "split.parquet"
    table.write_bytes(b"rows")

    def libraries(method: str, **settings: Any) -> dict[str, str | None]:
        run = RunInputs(
            task={"name": "text_generation"}, arm={"method": method}, settings=settings, seed=0,
            base=tmp_path, train=table, val=table, assets={},
        )  # fmt: skip
        found: dict[str, str | None] = run.fingerprint()["libraries"]
        return found

    assert libraries("lora").keys() == libraries("lora", optimizer="adamw").keys() == {"peft"}
    assert libraries("lora", optimizer="adamw_8bit").keys() == {"peft", "bitsandbytes"}
    assert libraries("qlora").keys() == {"peft", "bitsandbytes"}
    assert libraries("qlora")["bitsandbytes"] == bitsandbytes.__version__
