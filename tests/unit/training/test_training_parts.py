"""Order of examples, schedules, prefetching, leases and launch."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from peft_ablation.errors import InputError
from peft_ablation.training.batches import epoch_batches, ordered_batches
from peft_ablation.training.lease import exclusive, leased_devices, visible_devices
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.schedules import learning_rate_factor

LENGTHS = np.random.default_rng(0).integers(10, 90, 1003)


def test_every_example_comes_once_an_epoch() -> None:
    batches = epoch_batches(LENGTHS, 64, seed=3, epoch=2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert sorted(map(len, batches)) == [43, *[64] * 15]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = epoch_batches(LENGTHS, 64, seed=3, epoch=2)
    again = epoch_batches(LENGTHS, 64, seed=3, epoch=2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for other in (epoch_batches(LENGTHS, 64, 3, 3), epoch_batches(LENGTHS, 64, 4, 2)):
        assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))


def test_buckets_save_most_of_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 90, 20_000)

    def padding(batches: list[np.ndarray]) -> int:
        return sum(int((lengths[b].max() - lengths[b]).sum()) for b in batches)

    order = np.random.default_rng(1).permutation(20_000)
    at_random = [order[i : i + 64] for i in range(0, 20_000, 64)]
    assert padding(epoch_batches(lengths, 64, 3, 2)) < padding(at_random) / 10
    assert sorted(np.concatenate(ordered_batches(LENGTHS, 64)).tolist()) == list(range(1003))


def test_a_small_epoch_has_batches_of_mixed_lengths() -> None:
    batches = epoch_batches(LENGTHS, 64, seed=3, epoch=2)
    spreads = [int(LENGTHS[b].max() - LENGTHS[b].min()) for b in batches if len(b) == 64]
    assert min(spreads) > 20  # of 80


def reference_rates(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        ("linear", lambda o: get_linear_schedule_with_warmup(o, 6, 100)),
        ("cosine", lambda o: get_cosine_schedule_with_warmup(o, 6, 100)),
        (
            "one_cycle",
            lambda o: torch.optim.lr_scheduler.OneCycleLR(
                o, 1.0, total_steps=100, pct_start=0.06, cycle_momentum=False
            ),
        ),
    ],
)
def test_schedules_equal_their_references(schedule: str, reference) -> None:
    own = [learning_rate_factor(schedule, step, 100, 0.06) for step in range(100)]
    assert own == pytest.approx(reference_rates(reference, 100), abs=1e-9)


def test_prefetching_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetched(range(20), lambda n: n * n)) == [n * n for n in range(20)]

    def fails(number: int) -> int:
        if number == 3:
            raise InputError("third")
        return number

    with pytest.raises(InputError, match="third"):
        list(prefetched(range(9), fails))


HOLD = """
import sys, time
from peft_ablation.training.lease import exclusive, leased_devices
from pathlib import Path
what, path = sys.argv[1:]
if what == "lock":
    with exclusive(path):
        print("held", flush=True)
        time.sleep(60)
else:
    with leased_devices(1, ["0", "1"], Path(path)) as taken:
        print(taken[0], flush=True)
        time.sleep(60)
"""


def holder(what: str, path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, what, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_jobs_side_by_side_get_different_gpus_and_give_them_back_on_death(tmp_path: Path) -> None:
    first, one = holder("gpu", tmp_path)
    second, two = holder("gpu", tmp_path)
    assert {one, two} == {"0", "1"}
    first.send_signal(signal.SIGKILL)
    first.wait()
    third, three = holder("gpu", tmp_path)
    assert three == one
    for process in (second, third):
        process.kill()
        process.wait()


def test_more_gpus_than_visible_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_devices(8) == ["2", "5"]
    with (
        pytest.raises(InputError, match="3 GPUs wanted, but only 2"),
        leased_devices(3, ["2", "5"]),
    ):
        pass


def test_an_earlier_process_is_asked_to_stop(tmp_path: Path) -> None:
    process, said = holder("lock", tmp_path / "run.lock")
    assert said == "held"
    start = time.monotonic()
    with exclusive(tmp_path / "run.lock"):
        assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - start < 30


def test_a_holder_on_another_machine_is_named_and_no_process_of_this_one_is_asked(
    tmp_path: Path,
) -> None:
    process, _ = holder("lock", tmp_path / "run.lock")
    (tmp_path / "run.lock").write_text(f"elsewhere {process.pid}\n")
    with (
        pytest.raises(InputError, match=f"held by process {process.pid} on elsewhere"),
        exclusive(tmp_path / "run.lock", take_over_seconds=0.5),
    ):
        pass
    assert process.poll() is None
    process.kill()
    process.wait()
