"""Every shipped study runs with `smoke=true`, so that no shipped config can rot."""

from html import escape
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import ROOT, Snakemake

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(1200)]

DATA = {
    "mimic_cxr_git": "nih-cxr-mimic-layout",
    "mimic_cxr_smoke": "nih-cxr-mimic-layout",
    "cifar10_pretrain": "cifar10-images",
    "cifar10_transfer": "cifar10-images",
    "cifar10_resnet": "cifar10-images",
    "cifar10_zero_shot": "cifar10-images",
    "imagewoof_vit": "imagewoof-160",
    "flickr_captioner": "coco-captions-cc",
    "e2e_near": "e2e-nlg",
    "e2e_food": "e2e-nlg",
    "e2e_gpt2": "e2e-nlg",
    "squad_gpt2_ranks": "squad-xquad-en",
    "e2e_stories": "e2e-nlg",
    "instruct_llama_qlora": "instructions",
    "glue_cola": "glue-slices",
    "glue_stsb": "glue-slices",
}
"""Folder of test data by study; others bring their own."""
ALIKE = {"glue_mnli", "glue_mrpc", "glue_qnli", "glue_qqp", "glue_rte", "glue_sst2"}
"""GLUE studies that differ from the two above in their columns alone, which are read elsewhere."""
TWINS = {
    "mimic_cxr_target_modules", "mimic_cxr_ranks", "mimic_cxr_methods",
    "phantom_cxr_target_modules", "phantom_cxr_ranks", "phantom_cxr_tuned", "e2e_gpt2_ranks",
    "e2e_gpt2_small_ranks", "e2e_gpt2_large_ranks", "squad_gpt2_small_ranks",
    "squad_gpt2_large_ranks",
}  # fmt: skip
"""Studies with the data and the smoke of one that is run, and other arms, which unit tests and
test_tuned_study.py run; that their smoke plans its jobs is a test of test_dry_run.py, and of those
of GPT-2 one of test_rank_studies.py."""
AUDITS = {"mimic_cxr_git_as_published", "phantom_cxr_audit", "phantom_cxr_audit_image_split"}
"""Studies whose smoke would repeat those of phantom_cxr_as_published and of what they extend."""
PROTOCOLS = {"glue_roberta"}
"""Files that only others extend."""
WHOLE = {"mimic_cxr_smoke", "phantom_cxr"}
"""Run at their own size in test_studies.py; that their smoke can be read is a fast test."""
LEFT_OUT = ALIKE | TWINS | AUDITS | PROTOCOLS | WHOLE
DRAWN = {
    "mimic_cxr_git", "phantom_cxr_tuned", "phantom_cxr_as_published", "phantom_cxr_ranks",
    "cifar10_transfer", "cifar10_zero_shot", "flickr_captioner", "glue_cola", "e2e_gpt2",
}  # fmt: skip
"""One of each task, and those with figures of their own, run to the figures: the others would draw
the same ones."""
ASKED = {"instruct_llama_qlora"}
"""Studies with questions that are in none of the sets above; they are asked as well."""
SHIPPED = {path.stem for path in (ROOT / "config" / "studies").glob("*.yaml")}
TEXTS = ("e2e_", "glue_", "instruct_", "squad_")


def smoke(study: str, folder: Path, snakemake: Snakemake, request: pytest.FixtureRequest) -> None:
    words = [f"study={study}", "smoke=true"]
    if study in DATA:
        words.append(f"data_root={request.getfixturevalue('shared_data') / DATA[study]}")
    # The figure over rank is that of one study; without a target all figures are drawn.
    swept = ("plot_r_sweep",) if study.endswith("_ranks") else ()
    asked = ("questions",) if study in ASKED else ()
    target = () if study in DRAWN else ("compare_arms", *swept, *asked)
    snakemake(folder, *target, "--config", *words)
    comparison = folder / "results" / f"{study}.smoke" / "comparison" / "comparison.md"
    assert "Its scores mean nothing." in comparison.read_text()
    if study in ASKED:
        check_questions(folder / "results" / f"{study}.smoke" / "questions")


def check_questions(folder: Path) -> None:
    """Each question is answered once by each model, and shown to be graded twice."""
    answers = pl.read_csv(folder / "answers.csv")
    models = answers.select("arm", "seed").unique(maintain_order=True)
    assert models["arm"].to_list()[:2] == ["base", "instruct"]
    assert {"lora"} <= set(models["arm"])
    assert "untouched" not in models["arm"]  # it is the base
    questions = answers["text"].unique(maintain_order=True).to_list()
    assert answers.height == len(questions) * models.height == 5 * models.height
    page = (folder / "questions.html").read_text()
    assert all(escape(question) in page for question in questions)
    assert pl.read_csv(folder / "grading_sheet.csv").height == 2 * answers.height


# Two classes, so that each has a core of its own (`--dist loadscope`).
class TestImages:
    @pytest.mark.parametrize(
        "study", sorted(s for s in SHIPPED - LEFT_OUT if not s.startswith(TEXTS))
    )
    def test_smoke_reaches_the_comparison_and_says_what_it_is(
        self, study: str, tmp_path: Path, snakemake: Snakemake, request: pytest.FixtureRequest
    ) -> None:
        smoke(study, tmp_path, snakemake, request)


class TestTexts:
    @pytest.mark.parametrize("study", sorted(s for s in SHIPPED - LEFT_OUT if s.startswith(TEXTS)))
    def test_smoke_reaches_the_comparison_and_says_what_it_is(
        self, study: str, tmp_path: Path, snakemake: Snakemake, request: pytest.FixtureRequest
    ) -> None:
        smoke(study, tmp_path, snakemake, request)
