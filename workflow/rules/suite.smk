# In: the site's `suite`. Out: suites/<suite>/comparison and suites/<suite>/figures.
# Each study of the suite is this whole workflow, as a module; what several of them need is made
# once, by the first that asks for it.
import sys

from peft_ablation.comparison.published import read_published
from peft_ablation.config.suite import load_suite
from peft_ablation.config.swept import SWEPT
from peft_ablation.errors import InputError
from peft_ablation.stale_locks import hold
from peft_ablation.termination import handle_apart

SITE = {key: value for key, value in config.items() if key != "conduct"}

try:
    SUITE = load_suite(SITE)
    PUBLISHED = {member.name: read_published(member.name) for member in SUITE.studies}
except InputError as error:
    sys.exit(f"peft-ablation: {error}")

ACROSS = SUITE.results
NAMES = [member.name for member in SUITE.studies]
FIRST = SUITE.studies[0].study
RUN_LOCK = hold() if workflow.is_main_process else None


# A suite's report begins with the suite, not with a study.
report: "../report/suite_workflow.rst"


# Files of every study's comparison, in the suite's order.
TABLES, WORDS, ESTIMATES = (
    [f"{member.results}/comparison/{name}" for member in SUITE.studies]
    for name in ("comparison.csv", "words.json", "estimates.json")
)
# Studies with arms that differ in one number alone: those of each swept key.
SWEPT_STUDIES = {key: [member for member in SUITE.studies if key in member.swept] for key in SWEPT}
SWEEPS = [(member.name, key) for key in SWEPT for member in SWEPT_STUDIES[key]]
SWEEP_TABLES = [
    f"{member.results}/comparison/{key}_{table}.csv"
    for key in SWEPT
    for member in SWEPT_STUDIES[key]
    for table in ("sweep", "spread")
]
# What each study makes when it is run alone.
EVERYTHING = []

for member in SUITE.by_need:
    examples = workflow.modifier.modify_path(f"{member.results}/cohort/examples.parquet")
    if not any(str(examples) in rule.output for rule in workflow.rules):
        # A module's name becomes a name here: a study called `config` must not hide the config.
        member_study = f"study_{member.name.replace('.', '_')}"
        member_rules = f"{member_study.removeprefix('study_')}_*"

        module:
            name: member_study
            snakefile:
                "../../Snakefile"
            config:
                member.told.model_dump(mode="json")

        use rule * from member_study as member_rules

        EVERYTHING.append(getattr(rules, member_rules.replace("*", "all")).input)


rule compare_studies:
    input:
        **({"sweeps": SWEEP_TABLES} if SWEEPS else {}),
        tables=TABLES,
        words=WORDS,
        estimates=ESTIMATES,
    output:
        table=report(
            f"{ACROSS}/comparison/suite.csv",
            caption="../report/suite_table.rst",
            category="0. Suite",
            labels={"what": "Every column, as a table"},
        ),
        tests=report(
            f"{ACROSS}/comparison/suite_tests.csv",
            caption="../report/suite_tests.rst",
            category="0. Suite",
            labels={"what": "Tests of ranks, as a table"},
        ),
        summary=report(
            f"{ACROSS}/comparison/suite_summary.txt",
            caption="../report/suite_summary.rst",
            category="0. Suite",
            labels={"what": "What came out, in words"},
        ),
        markdown=f"{ACROSS}/comparison/suite.md",
        page=report(
            f"{ACROSS}/comparison/suite.html",
            caption="../report/suite.rst",
            category="0. Suite",
            labels={"what": "Comparison across studies"},
        ),
    log:
        f"{ACROSS}/logs/compare_studies.log",
    conda:
        "../../envs/tables.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        **({"swept": SWEEPS} if SWEEPS else {}),
        suite=SUITE.name,
        title=SUITE.title,
        studies=NAMES,
        confidence=FIRST.score.confidence,
        published=PUBLISHED,
    message:
        "Comparing arms across studies"
    script:
        "../scripts/compare_studies.py"


rule plot_suite:
    input:
        tables=TABLES,
        words=WORDS,
    output:
        report(
            f"{ACROSS}/figures/suite.svg",
            caption="../report/suite_figure.rst",
            category="0. Suite",
            labels={"what": "Headline scores by study"},
        ),
        multiext(f"{ACROSS}/figures/suite", ".png", ".csv"),
    log:
        f"{ACROSS}/logs/plot_suite.log",
    conda:
        "../../envs/tables.yaml"
    params:
        studies=NAMES,
    message:
        "Drawing scores across studies"
    script:
        "../scripts/plot_suite.py"


rule plot_critical_difference:
    input:
        tables=TABLES,
        words=WORDS,
    output:
        report(
            f"{ACROSS}/figures/critical_difference.svg",
            caption="../report/critical_difference.rst",
            category="0. Suite",
            labels={"what": "Mean ranks and what they tell apart"},
        ),
        multiext(f"{ACROSS}/figures/critical_difference", ".png", ".csv"),
    log:
        f"{ACROSS}/logs/plot_critical_difference.log",
    conda:
        "../../envs/tables.yaml"
    params:
        studies=NAMES,
        confidence=FIRST.score.confidence,
    message:
        "Drawing mean ranks"
    script:
        "../scripts/plot_critical_difference.py"


SWEEP_FIGURES = []

for swept_key in SWEPT:
    # One study's own figure says as much.
    if len(SWEPT_STUDIES[swept_key]) > 1:

        rule:
            name:
                f"plot_{swept_key}_sweep"
            input:
                points=[
                    f"{m.results}/comparison/{swept_key}_sweep.csv"
                    for m in SWEPT_STUDIES[swept_key]
                ],
                spreads=[
                    f"{m.results}/comparison/{swept_key}_spread.csv"
                    for m in SWEPT_STUDIES[swept_key]
                ],
            output:
                report(
                    f"{ACROSS}/figures/{swept_key}_sweep.svg",
                    caption="../report/suite_sweep.rst",
                    category="0. Suite",
                    labels={"what": f"Quality over {SWEPT[swept_key]}"},
                ),
                multiext(f"{ACROSS}/figures/{swept_key}_sweep", ".png", ".csv"),
            log:
                f"{ACROSS}/logs/plot_{swept_key}_sweep.log",
            conda:
                "../../envs/tables.yaml"
            params:
                studies=[member.name for member in SWEPT_STUDIES[swept_key]],
                swept=[swept_key],
            message:
                f"Drawing quality over {SWEPT[swept_key]} across studies"
            script:
                "../scripts/plot_sweep.py"

        SWEEP_FIGURES += multiext(f"{ACROSS}/figures/{swept_key}_sweep", ".svg", ".png", ".csv")


rule suite:
    input:
        SWEEP_FIGURES,
        rules.compare_studies.output,
        rules.plot_suite.output,
        rules.plot_critical_difference.output,
