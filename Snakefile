# Full fine-tuning against LoRA: query → sample → reports → splits → train → score → compare.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14")

# The library beside this file serves the workflow, its jobs and their subprocesses.
LIBRARY = str(Path(workflow.basedir, "src"))
sys.path.insert(0, LIBRARY)
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [LIBRARY, os.environ.get("PYTHONPATH")])))

# Models are read from disk alone, on nodes without network too; only fetch_base asks the hub.
os.environ.update(HF_HUB_OFFLINE="1")

# Threads of torch that wait for each other sleep instead of spinning: on a machine that is shared
# with other jobs spinning takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


configfile: str(Path(workflow.basedir, "config", "config.yaml"))


report: "workflow/report/workflow.rst"


STUDIES = Path(workflow.basedir, "config", "studies")


include: "workflow/rules/common.smk"
include: f"workflow/rules/sources/{SOURCE.rules}"
include: "workflow/rules/splits.smk"
include: "workflow/rules/images.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/compare.smk"


rule all:
    default_target: True
    input:
        rules.compare_arms.output,
        rules.plot_comparison.input,
