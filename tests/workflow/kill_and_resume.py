"""Kill a real run of the workflow at random moments, restart it, compare with an undisturbed run.

    python tests/workflow/kill_and_resume.py --kills 30

Every kill is one of: SIGKILL or SIGTERM, to the training process, to Snakemake alone, or to the
whole process group. The restart is the ordinary command. In the end model files, predictions and
histories must be identical bytes; only measured columns (seconds, memory, energy) may differ.
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


def run(folder: Path, *what: str) -> None:
    done = subprocess.run(command(folder, *what), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"snakemake failed in {folder}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
        )


def trainers(main: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in [main, *main.children(recursive=True)]:
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if (
            words
            and words[0].endswith(("python", "python3.11"))
            and words[-1].endswith(".train.py")
        ):
            found.append(process)
    return found


def ended(process: "subprocess.Popen[str]", told: dict[str, int]) -> str:
    """Wait for Snakemake's end and return its messages; kill it as a person would if it hangs.

    Snakemake's handler of SIGTERM waits for a lock; if the signal comes while the same thread holds
    it, as when a job ends at that moment, it waits for ever (snakemake 9.27, `exit_gracefully`).
    """
    while True:
        try:
            return process.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            before = psutil.Process(process.pid).cpu_times()
            time.sleep(5)
            idle = not psutil.Process(process.pid).children(recursive=True)
            if idle and psutil.Process(process.pid).cpu_times() == before:
                told["hung at SIGTERM"] = told.get("hung at SIGTERM", 0) + 1
                process.kill()


def disturbed_run(folder: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """Restart until finished; return how often each kind of kill met what."""
    told: dict[str, int] = {}
    done = 0
    while True:
        process = subprocess.Popen(
            command(folder, *targets()), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        disturbed = False
        while done < kills and process.poll() is None:
            number, whom = rng.choice(KINDS)
            moment = time.monotonic() + rng.uniform(0.5, 9)
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.02)
            if process.poll() is not None:
                break
            working = trainers(psutil.Process(process.pid))
            if whom == "trainer" and not working:
                continue
            done, disturbed = done + 1, True
            name = f"{signal.Signals(number).name} {whom}{' while training' if working else ''}"
            told[name] = told.get(name, 0) + 1
            print(f"  {done:3d} {name}", flush=True)
            if whom == "trainer":
                working[0].send_signal(number)
                continue  # Snakemake goes on by its retries, or ends and is restarted
            if whom == "snakemake":
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)
            break
        errors = ended(process, told)
        if process.returncode == 0:
            if done >= kills:
                return told
            for path in (*targets(), *(f"results/tiny/runs/{arm}" for arm in ARMS)):
                shutil.rmtree(folder / path, ignore_errors=True)  # finished early: once more
        elif not disturbed:
            raise SystemExit(f"restart failed: {errors[-4000:]}")


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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch, "straight"), Path(scratch, "killed")
        straight.mkdir()
        start = time.monotonic()
        run(
            straight, "results/tiny/images/vision_features.npy", "results/tiny/splits/train.parquet"
        )
        shutil.copytree(straight, killed, copy_function=shutil.copy2)
        run(straight, *targets())
        print(f"undisturbed run: {time.monotonic() - start:.0f} s", flush=True)
        told = disturbed_run(killed, options.kills, random.Random(options.seed))
        expected, found = comparable(straight), comparable(killed)
        assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
        different = [name for name in expected if expected[name] != found[name]]
        if different:
            raise SystemExit(f"different after {options.kills} kills: {different}")
        print(f"{options.kills} kills, {len(expected)} files identical: {told}")


if __name__ == "__main__":
    main()
