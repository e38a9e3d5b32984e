"""Order of examples, schedules, prefetching, leases and launch."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

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


def test_orders_of_two_seeds_share_no_epoch() -> None:
    """Seed 0 in epoch 1 is not seed 1 in epoch 0."""
    orders = [
        np.concatenate(epoch_batches(LENGTHS, 64, seed, epoch)).tolist()
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in orders}) == 9


def test_buckets_of_a_long_epoch_hold_fifty_batches() -> None:
    """Of 4000 lengths 100 are sorted together, so that neighbours are 40 apart on average."""
    lengths = np.random.default_rng(2).permutation(4000)
    batches = epoch_batches(lengths, 2, seed=0, epoch=0)
    gaps = [abs(int(lengths[batch[0]]) - int(lengths[batch[1]])) for batch in batches]
    assert np.mean(gaps) == pytest.approx(4000 / 101, rel=0.1)


def test_batches_come_in_no_order_of_length() -> None:
    lengths = np.random.default_rng(2).permutation(4000)
    batches = epoch_batches(lengths, 2, seed=0, epoch=0)
    rising = np.diff([lengths[batch].mean() for batch in batches]) > 0
    assert rising.mean() == pytest.approx(0.5, abs=0.05)


def test_evaluation_goes_from_shortest_to_longest_by_hand() -> None:
    batches = ordered_batches(np.array([5, 3, 9, 3, 7]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 4], [2]]


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


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        ("constant", lambda o: get_constant_schedule_with_warmup(o, 7)),
        ("linear", lambda o: get_linear_schedule_with_warmup(o, 7, 90)),
        ("cosine", lambda o: get_cosine_schedule_with_warmup(o, 7, 90)),
    ],
)
def test_a_share_of_a_step_of_warmup_counts_as_a_step(schedule: str, reference) -> None:
    """As transformers rounds a ratio: 0.07 of 90 steps are 6.3, so 7."""
    own = [learning_rate_factor(schedule, step, 90, 0.07) for step in range(90)]
    assert own == pytest.approx(reference_rates(reference, 90), abs=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.01])
def test_without_a_step_to_rise_in_the_first_is_the_peak(schedule: str, warmup: float) -> None:
    rates = [learning_rate_factor(schedule, step, 100, warmup) for step in range(100)]
    peak = 1 if warmup and schedule != "one_cycle" else 0
    assert max(rates) == rates[peak] == 1
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert min(rates) >= 0


def test_prefetching_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetched(range(20), lambda n: n * n)) == [n * n for n in range(20)]

    def fails(number: int) -> int:
        if number == 3:
            raise InputError("third")
        return number

    with pytest.raises(InputError, match="third"):
        list(prefetched(range(9), fails))


def test_as_many_items_are_made_ahead_as_asked_and_no_more() -> None:
    made: list[int] = []
    stream = prefetched(range(100), lambda n: made.append(n) or n, depth=3)
    assert next(stream) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert made == [0, 1, 2, 3]
    stream.close()


def test_what_is_not_asked_for_any_more_is_not_made() -> None:
    made: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def make(number: int) -> int:
        if number == 1:
            begun.set()
            go_on.wait(10)
        made.append(number)
        return number

    stream = prefetched(range(9), make)
    assert next(stream) == 0
    assert begun.wait(10)  # a stream closed sooner may well not begin the next
    threading.Timer(0.3, go_on.set).start()
    stream.close()
    assert made == [0, 1]  # what was begun is finished


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
