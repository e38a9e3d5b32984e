"""What of a finished study runs again after a change, as `config/README.md` says."""

import re
from pathlib import Path

import pytest
from workflow_runs import TINY, Snakemake


def planned(folder: Path, snakemake: Snakemake, overrides: str, *site: str) -> dict[str, int]:
    """Count the jobs a rule that would run with these overrides."""
    done = snakemake(
        folder, "--dry-run", "--config", f"study={TINY}", f"overrides={overrides}", *site
    )
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in found if rule != "total"}


def trained(jobs: dict[str, int]) -> dict[str, int]:
    return {rule: count for rule, count in jobs.items() if rule.startswith("train_")}


def test_how_a_run_is_carried_out_trains_nothing(tiny_run: Path, snakemake: Snakemake) -> None:
    how = (
        "{train: {eval_batch_size: 7, halve_batch_on_oom: false, checkpoint_every_steps: 5,"
        " checkpoint_every_seconds: 60, max_loss: 50}}"
    )
    jobs = planned(tiny_run, snakemake, how, "tensorboard=true")
    assert not trained(jobs)
    assert not {"predict", "select_checkpoint", "score"} & set(jobs)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # Chunks of the new runs alone: two of each arm.
        (
            "{train: {seeds: [0, 1]}}",
            {"train_fft_chunk": 2, "train_lora_vision_chunk": 2, "train_lora_text_chunk": 2},
        ),
        (
            "{arms: {both: {method: lora, targets: vision_and_text, learning_rate: 1.0e-3}}}",
            {"train_both_chunk": 2},
        ),
        ("{arms: {lora_text: {r: 8}}}", {"train_lora_text_chunk": 2}),
        ("{arms: {fft: null}}", {}),
        ("{score: {seed: 8}}", {}),
        ("{arms: {fft: {as_published: {test_examples: 64}}}}", {}),
        ("{arms: {fft: {as_published: {batches_an_epoch: 1}}}}", {"train_fft_chunk": 2}),
        ("{task: {max_new_tokens: 20, num_beams: 2}}", {}),
        (
            "{task: {shift_augmentation: 2}}",
            {"train_fft_chunk": 2, "train_lora_vision_chunk": 2, "train_lora_text_chunk": 2},
        ),
        (
            "{train: {weight_decay: 0.1}}",
            {"train_fft_chunk": 2, "train_lora_vision_chunk": 2, "train_lora_text_chunk": 2},
        ),
        # Defaults of settings that came later are as good as not said.
        (
            "{train: {optimizer: adamw}, arms: {fft: {optimizer: adamw}, lora_text:"
            " {gradient_checkpointing: true}}}",
            {"train_lora_text_chunk": 2},
        ),
        (
            "{train: {threads: 3}}",
            {"train_fft_chunk": 2, "train_lora_vision_chunk": 2, "train_lora_text_chunk": 2},
        ),
    ],
    ids=[
        "one seed more",
        "one arm more",
        "another rank",
        "one arm less",
        "scoring",
        "what is claimed",
        "a defect of training",
        "prediction",
        "the task as training reads it",
        "protocol",
        "an arm's own protocol",
        "rounding",
    ],
)
def test_only_what_a_change_touches_is_trained(
    overrides: str, expected: dict[str, int], tiny_run: Path, snakemake: Snakemake
) -> None:
    jobs = planned(tiny_run, snakemake, overrides)
    assert trained(jobs) == expected
    assert "compare_arms" in jobs
    assert not {"query_metadata", "cache_images", "pretrain_phantom_base"} & set(jobs)
