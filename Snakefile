# Full fine-tuning against LoRA: query → sample → reports → splits → train → score → compare.
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.utils import min_version

min_version("9.16.3")

# `workflow.basedir` is that of the workflow which uses this one as a module, if one does.
HERE = workflow.current_basedir

# The library beside this file serves the workflow, its jobs and their subprocesses. Where this file
# came by URL nothing is beside it, and the installed library serves.
LIBRARY = str(HERE.join("src"))
PYTHONPATH = os.environ.get("PYTHONPATH", "").split(os.pathsep)
if Path(LIBRARY).is_dir() and LIBRARY not in PYTHONPATH:
    sys.path.insert(0, LIBRARY)
    os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [LIBRARY, *PYTHONPATH])))
if find_spec("peft_ablation") is None:
    sys.exit(
        f"peft-ablation: no library at {LIBRARY}, nor installed; pip install it beside snakemake"
    )

# Models are read from disk alone, on nodes without network too; only fetch_base asks the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Threads of torch that wait for each other sleep instead of spinning: on a machine that is shared
# with other jobs spinning takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SITE_FILE = str(HERE.join("config/config.yaml"))


configfile: SITE_FILE if Path(SITE_FILE).is_file() else workflow.source_path("config/config.yaml")


report: "workflow/report/workflow.rst"


# SIGTERM at the wrong moment would freeze Snakemake.
onstart:
    handle_apart()


if config.get("suite"):

    include: "workflow/rules/suite.smk"

else:

    include: "workflow/rules/common.smk"
    include: "workflow/rules/studies.smk"
    include: f"workflow/rules/sources/{SOURCE.rules}"
    include: "workflow/rules/splits.smk"
    include: "workflow/rules/images.smk"
    include: "workflow/rules/base.smk"
    include: "workflow/rules/tune.smk"
    include: "workflow/rules/train.smk"
    include: "workflow/rules/score.smk"
    include: "workflow/rules/budget.smk"
    include: "workflow/rules/forgetting.smk"
    include: "workflow/rules/by_group.smk"
    include: "workflow/rules/likelihoods.smk"
    include: "workflow/rules/questions.smk"
    include: "workflow/rules/sweep.smk"
    include: "workflow/rules/tokens.smk"
    include: "workflow/rules/compare.smk"
    include: "workflow/rules/memory.smk"
    include: "workflow/rules/audit.smk"
    include: "workflow/rules/write_up.smk"


# The default target of an included file would not count.
rule all:
    default_target: True
    input:
        rules.suite.input if config.get("suite") else rules.compare_arms.output,
        EVERYTHING if config.get("suite") else rules.plot_comparison.input,
        [] if config.get("suite") else rules.seal.output,
