# make demo: the default study, from nothing to its comparison. make test: the tests. make lint: the linters.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= phantom_cxr
RESULTS ?= results

.PHONY: demo test test-slurm lint install clean showcase audit headline

install: $(VENV)/.installed

# The lock file pins every package; the project itself is installed without touching them.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/snakemake --cores all --resources gpu=1 --logger stages --config study=$(STUDY) results=$(RESULTS)
	$(BIN)/snakemake --config study=$(STUDY) results=$(RESULTS) --quiet all --report $(RESULTS)/$(STUDY)/report.html
	@echo
	@sed '/^## What the columns mean/,$$d' $(RESULTS)/$(STUDY)/comparison/comparison.md
	@echo
	@echo "Comparison table: $(RESULTS)/$(STUDY)/comparison/comparison.csv (with what the columns mean: .md beside it)"
	@echo "Report page:      $(RESULTS)/$(STUDY)/report.html"

# Files in their order: those on a Slurm, mostly waiting, begin early and run beside the others. Whole
# studies of one core each run two at a time. The slow ones want the machine for themselves.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not smoke"
	$(BIN)/python -m pytest -n 2 --dist loadscope -m smoke
	$(BIN)/python -m pytest -m slow

# Only those on a Slurm: a one-node cluster, installed by apt where it is absent and that may be.
test-slurm: $(VENV)/.installed
	$(BIN)/python -m pytest -m slurm

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

clean:
	rm -rf $(VENV) results resources/bases resources/datasets .snakemake

# The figures and the table that the README shows, from the last demo.
showcase:
	mkdir -p docs/phantom
	cp results/phantom_cxr/comparison/comparison.md results/phantom_cxr/figures/quality.png results/phantom_cxr/figures/quality_cost.png docs/phantom/

# What each defect of the published protocol does (docs/audit.md), and the tables and figure shown there.
audit: $(VENV)/.installed
	$(BIN)/snakemake audit --cores all --resources gpu=2 --logger stages --config study=phantom_cxr_audit results=$(RESULTS)
	$(BIN)/snakemake compare_arms --cores all --resources gpu=2 --logger stages --config study=phantom_cxr_audit_image_split results=$(RESULTS)
	mkdir -p docs/audit
	cp $(RESULTS)/phantom_cxr_audit/comparison/audit.md docs/audit/claims.md
	cp $(RESULTS)/phantom_cxr_audit/figures/claims.png docs/audit/
	cp $(RESULTS)/phantom_cxr_audit_image_split/comparison/comparison.md docs/audit/image_split.md

# The figure at the head of the README: the demo beside the same arms under the published protocol.
headline: $(VENV)/.installed
	$(BIN)/snakemake --cores all --resources gpu=1 --logger stages --config study=phantom_cxr results=$(RESULTS)
	$(BIN)/snakemake audit --cores all --resources gpu=1 --logger stages --config study=phantom_cxr_as_published results=$(RESULTS)
	$(BIN)/python -m peft_ablation.figures.headline $(RESULTS)/phantom_cxr $(RESULTS)/phantom_cxr_as_published docs/phantom/headline.png
