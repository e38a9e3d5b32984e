"""Files that hosts, catalogues and citation managers read."""

import re
from pathlib import Path

import yaml

import peft_ablation

ROOT = Path(__file__).resolve().parents[2]


def read(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_release_and_licence():
    citation = read("CITATION.cff")
    # What the Citation File Format 1.2.0 requires.
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == peft_ablation.__version__
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")
    assert "doi" not in citation


def test_the_workflow_catalogue_finds_what_it_asks_for():
    usage = read(".snakemake-workflow-catalog.yml")["usage"]
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
    assert any(usage["software-stack-deployment"].values())
    assert usage["report"] is True
    assert usage["mandatory-flags"]["flags"] in (ROOT / "README.md").read_text()


def test_hosted_checks_run_what_any_machine_runs_and_a_dry_run():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert ".ci/run" in steps
    assert any("snakemake --dry-run" in step for step in steps)


def test_links_of_contributing_lead_somewhere():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"\]\(([^)#]+)", text) + re.findall(r"`((?:tests|src)/[\w/.]+)`", text)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path
    for anchor in re.findall(r"docs/extending\.md#([\w-]+)", text):
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/extending.md").read_text(), re.M)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
