"""Kill a real run of the workflow at random moments, restart it, compare with an undisturbed run.

    python tests/workflow/kill_and_resume.py --kills 30

Every kill is one of: SIGKILL or SIGTERM, to the training process, to Snakemake alone, or to the
whole process group. The restart is the ordinary command. In the end model files, predictions and
histories must be identical bytes; only measured columns (seconds, memory, energy) may differ.

Nothing is waited for without end: a Snakemake that stands still or takes longer than `--limit` is
killed with all it started, and said.
"""

import argparse
import csv
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from peft_ablation.training.history_table import MEASURED

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "tests" / "workflow" / "tiny.yaml"
# Longer than the tiny study, so that most kills meet a training process at work.
OVERRIDES = (
    "{train: {epochs: 24, epochs_per_chunk: 12, checkpoint_every_steps: 7},"
    " data: {phantom: {subjects: 200}}, sample: {quota: 150}}"
)
ARMS = ("fft", "lora_vision", "lora_text")
IDLE_SECONDS, IDLE_SHARE = 60, 0.005
"""A tree of processes that uses less than this share of one core for so long stands still."""
KINDS = [
    (number, whom)
    for number in (signal.SIGKILL, signal.SIGTERM)
    for whom in ("trainer", "snakemake", "group")
]


def command(folder: Path, *targets: str) -> list[str]:
    return [
        str(Path(sys.executable).with_name("snakemake")), *targets, "--cores", "2",
        "--resources", "gpu=1", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder),
        "--workflow-profile", str(ROOT / "profiles" / "default"),
        "--config", f"study={STUDY}", f"overrides={OVERRIDES}",
    ]  # fmt: skip


def targets() -> list[str]:
    return [f"results/tiny/runs/{arm}/seed-0/predictions.parquet" for arm in ARMS]


@dataclass
class Snakemake:
    """A run of Snakemake in its own process group, its messages in a file.

    A pipe would stay open, and be waited for, while a training process outlives Snakemake.
    """

    process: "subprocess.Popen[str]"
    messages: Path

    def said(self) -> str:
        """The end of what it has said."""
        return self.messages.read_text()[-6000:]

    def tree(self) -> list[psutil.Process]:
        """Snakemake, if it has not ended, and all it started that has it for an ancestor."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def seconds_used(self) -> float:
        """CPU time of the tree so far, of children that have ended too."""
        used = 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                used += sum(process.cpu_times()[:4])
        return used

    def wait(self, deadline: float) -> None:
        """Wait for its end; raises `HangError` at `deadline` or where nobody in the tree works."""
        used, moved = self.seconds_used(), time.monotonic()
        while self.process.poll() is None:
            time.sleep(0.5)
            now, spent = time.monotonic(), self.seconds_used()
            if abs(spent - used) > IDLE_SHARE * IDLE_SECONDS:
                used, moved = spent, now
            if now - moved > IDLE_SECONDS:
                raise HangError(
                    f"it and its {len(self.tree()) - 1} children stood still", self.said()
                )
            if now > deadline:
                raise HangError("the time limit is reached", self.said())


class HangError(Exception):
    """Snakemake does not end: why it is given up, and the end of what it said."""


@contextmanager
def started(folder: Path, *what: str) -> Iterator[Snakemake]:
    """Start Snakemake; where the body fails, what is left of its tree is killed."""
    messages = folder / "messages.txt"
    with messages.open("w") as file:
        process = subprocess.Popen(
            command(folder, *what), stdout=file, stderr=file, text=True, start_new_session=True
        )
    snakemake = Snakemake(process, messages)
    try:
        yield snakemake
    except BaseException:
        for left in snakemake.tree()[::-1]:
            with suppress(psutil.Error):
                left.kill()
        process.wait()
        raise


def run(folder: Path, deadline: float, *what: str) -> None:
    with started(folder, *what) as snakemake:
        snakemake.wait(deadline)
        if snakemake.process.returncode:
            raise SystemExit(f"snakemake failed in {folder}:\n{snakemake.said()}")


def trainers(tree: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in tree:
        with suppress(psutil.Error):
            words = process.cmdline()
            if (
                words
                and Path(words[0]).name.startswith("python")
                and words[-1].endswith(".train.py")
            ):
                found.append(process)
    return found


def disturbed_run(folder: Path, kills: int, rng: random.Random, deadline: float) -> dict[str, int]:
    """Restart until finished; return how often each kind of kill met what."""
    told: dict[str, int] = {}
    done, name = 0, "none"
    while True:
        with started(folder, *targets()) as snakemake:
            process, disturbed, terminated = snakemake.process, False, False
            while done < kills and process.poll() is None:
                number, whom = rng.choice(KINDS)
                moment = time.monotonic() + rng.uniform(0.5, 9)
                while time.monotonic() < moment and process.poll() is None:
                    time.sleep(0.02)
                if process.poll() is not None:
                    break
                working = trainers(snakemake.tree())
                if whom == "trainer" and not working:
                    continue
                done, disturbed = done + 1, True
                name = f"{signal.Signals(number).name} {whom}{' while training' * bool(working)}"
                told[name] = told.get(name, 0) + 1
                print(f"  {done:3d} {name}", flush=True)
                if whom == "trainer":
                    with suppress(psutil.NoSuchProcess):
                        working[0].send_signal(number)
                    continue  # Snakemake goes on by its retries, or ends and is restarted
                terminated = number == signal.SIGTERM
                if whom == "snakemake":
                    process.send_signal(number)
                else:
                    os.killpg(process.pid, number)
                break
            try:
                snakemake.wait(deadline)
            except HangError as hung:
                # Snakemake's handler of SIGTERM waits for a lock; if the signal comes while the
                # same thread holds it, as when a job ends at that moment, it waits for ever
                # (snakemake 9.27, `exit_gracefully`). A person would kill it, and so it is here.
                if not terminated or len(snakemake.tree()) > 1 or time.monotonic() > deadline:
                    raise HangError(
                        f"after kill {done} ({name}): {hung.args[0]}", hung.args[1]
                    ) from None
                told["hung at SIGTERM"] = told.get("hung at SIGTERM", 0) + 1
                process.kill()
                process.wait()
            if process.returncode == 0:
                if done >= kills:
                    return told
                for path in (*targets(), *(f"results/tiny/runs/{arm}" for arm in ARMS)):
                    shutil.rmtree(folder / path, ignore_errors=True)  # finished early: once more
            elif not disturbed:
                raise SystemExit(f"restart failed: {snakemake.said()}")


def comparable(folder: Path) -> dict[str, bytes]:
    """Return every file that must be equal, history without its measured columns."""
    files = {}
    for arm in ARMS:
        run_folder = folder / "results" / "tiny" / "runs" / arm / "seed-0"
        for path in sorted(run_folder.rglob("*")):
            if path.suffix in (".safetensors", ".parquet") or path.name == "adapter_config.json":
                files[str(path.relative_to(folder))] = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO((run_folder / "history.csv").read_text())))
        kept = [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
        files[f"{arm}/history"] = repr(kept).encode()
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3600, help="seconds for all of it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    try:
        compare(options.kills, options.seed, time.monotonic() + options.limit)
    except HangError as hung:
        raise SystemExit(
            f"snakemake hangs: {hung.args[0]}; its last words:\n{hung.args[1]}"
        ) from None


def compare(kills: int, seed: int, deadline: float) -> None:
    """Run undisturbed and disturbed; exit with a message where their files differ."""
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch, "straight"), Path(scratch, "killed")
        straight.mkdir()
        start = time.monotonic()
        run(straight, deadline, "cache_frozen_features", "results/tiny/splits/train.parquet")
        shutil.copytree(straight, killed, copy_function=shutil.copy2)
        run(straight, deadline, *targets())
        print(f"undisturbed run: {time.monotonic() - start:.0f} s", flush=True)
        told = disturbed_run(killed, kills, random.Random(seed), deadline)
        expected, found = comparable(straight), comparable(killed)
        assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
        different = [name for name in expected if expected[name] != found[name]]
        if different:
            raise SystemExit(f"different after {kills} kills: {different}")
        print(f"{kills} kills, {len(expected)} files identical: {told}")


if __name__ == "__main__":
    main()
