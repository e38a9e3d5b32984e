"""A finished study as a paper wants it: a paragraph on methods, and a table in LaTeX."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import read_json, write_text
from peft_ablation.comparison.captions import listed, named, sentence, tested_on
from peft_ablation.comparison.pages import NONE, plain, with_interval
from peft_ablation.comparison.summary import summary
from peft_ablation.comparison.tuning import NOT_TUNED, TUNED
from peft_ablation.comparison.words import Words, read_rows
from peft_ablation.provenance import version_text

Row = Mapping[str, Any]

NAMED: Final = ("torch", "transformers", "peft", "accelerate", "numpy", "polars", "snakemake")
"""Packages that a paper names."""
SCHEDULES: Final = {"one_cycle": "one-cycle"}
OPTIMIZERS: Final = {
    "adamw": "AdamW",
    "adamw_8bit": "AdamW with states in 8 bits",
    "paged_adamw_32bit": "paged AdamW",
    "paged_adamw_8bit": "paged AdamW with states in 8 bits",
}
PROTOCOL: Final = ("method", "learning_rate", "base", "init_from")
"""Keys of an arm that are told apart from its method's own settings."""


def write_up(
    *,
    table: str | Path,
    words: str | Path,
    manifest: str | Path,
    account: str | Path,
    config: Mapping[str, Any],
    study: str,
    confidence: float,
    tested: Sequence[str] | None,
    summary_text: str | Path,
    methods: str | Path,
    latex: str | Path,
) -> None:
    """Write a finished study's paragraph, its methods (Markdown) and its table (LaTeX, booktabs).

    `table`, `words` and `manifest` are those of the comparison, `account` that of the splits,
    `config` the study's settings as plain values, `tested` the metrics with tests (None: the
    headline).
    """
    rows = read_rows(table)
    said, split = Words.read(words), read_json(account)
    told: dict[str, Any] = {"study": study, "config": config, "confidence": confidence}
    write_text(summary_text, summary(rows, said, training=split["rows"]["train"], **told) + "\n")
    write_text(
        methods,
        methods_text(
            rows, said, manifest=read_json(manifest), account=split,
            tested=tested or (said.headline,), **told,
        ),
    )  # fmt: skip
    write_text(latex, latex_table(rows, said, study=study, confidence=confidence))


def methods_text(
    rows: Sequence[Row],
    words: Words,
    *,
    study: str,
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    account: Mapping[str, Any],
    confidence: float,
    tested: Sequence[str],
) -> str:
    """Return a Markdown page with one paragraph: data, training, statistics and software."""
    paragraph = [
        *_arms(rows, config),
        _data(rows, words, config, account),
        *_training(rows, config),
        _scores(rows, words, confidence),
        *_tests(rows, words, tested),
        *_controls(rows, words),
        _software(rows, manifest),
    ]
    return (
        f"# Methods, study {study}\n\n{' '.join(paragraph)}\n\n"
        "Written from the study's settings and results; nothing here says how settings were chosen "
        "beyond what the study file says.\n"
    )


def _arms(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    bases = list(dict.fromkeys(str(row["base"]) for row in rows))
    arms = [f"{row['arm']} ({_method(config['arms'][row['arm']])})" for row in rows]
    apart = [f"{row['arm']} from {row['base']}" for row in rows] if len(bases) > 1 else []
    return [
        f"On the task {named(config)} we compared {listed(arms)}, starting from {listed(bases)}.",
        *([f"Bases by arm: {listed(apart)}."] if apart else []),
    ]


def _method(arm: Mapping[str, Any]) -> str:
    own = [
        f"{key} {_value(value)}"
        for key, value in arm.items()
        if key not in PROTOCOL and value is not None and value is not False
    ]
    return ", ".join([f"method {arm['method']}", *own])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_value, value))
    return "yes" if value is True else str(value)


def _data(
    rows: Sequence[Row], words: Words, config: Mapping[str, Any], account: Mapping[str, Any]
) -> str:
    counts = account["rows"]
    unit = account.get("unit")
    shared = account.get("leakage", {}).get(unit, {})
    kept = f"; no {unit} is in two of them" if unit and not any(shared.values()) else ""
    return (
        f"The data (source {config['data']['source']}) were divided into {counts['train']:,} "
        f"training, {counts['val']:,} validation and {counts['test']:,} test {words.example}s "
        f"(seed {config['split']['seed']}){kept}."
    )


def _training(rows: Sequence[Row], config: Mapping[str, Any]) -> list[str]:
    trained = [row for row in rows if row["epochs"]]
    others = [row["arm"] for row in rows if not row["epochs"]]
    train = config["train"]
    sentences = []
    if trained:
        seeds = [str(seed) for seed in train["seeds"]]
        rates = listed([f"{row['arm']} {row['learning_rate']:g}" for row in trained])
        precisions = listed(list(dict.fromkeys(str(row["precision"]) for row in trained)))
        schedule = SCHEDULES.get(train["schedule"], train["schedule"])
        stopping = train.get("early_stopping")
        until = f", or until {stopping} epochs brought no lower validation loss" if stopping else ""
        sentences += [
            f"Each arm was trained {_times(len(seeds))} (order of examples, dropout and "
            f"initialisation by the seed{'s' * (len(seeds) > 1)} {listed(seeds)}) "
            f"for {train['epochs']} epochs{until}, in batches of {train['batch_size']}, with "
            f"{OPTIMIZERS[train.get('optimizer', 'adamw')]} (weight decay "
            f"{train['weight_decay']:g}; gradients clipped to norm "
            f"{train['max_grad_norm']:g}; {schedule} schedule with a warm-up over "
            f"{100 * train['warmup']:g} % of the steps; {precisions}); the epoch of the lowest "
            "validation loss was kept.",
            f"Peak learning rates: {rates}.",
            *_tuning(trained),
        ]
    if others:
        sentences.append(f"Scored as they are, without training here: {listed(others)}.")
    return sentences


def _tuning(rows: Sequence[Row]) -> list[str]:
    tuned = [row for row in rows if row.get("tuning") == TUNED]
    untuned = [row["arm"] for row in rows if row.get("tuning") == NOT_TUNED]
    trials = listed(sorted({str(row["tuning_trials"]) for row in tuned})) if tuned else ""
    found = []
    if tuned:
        found.append(
            f"Those of {listed([row['arm'] for row in tuned])} were chosen by {trials} trials an "
            "arm, by the lowest validation loss of one seed."
        )
    if untuned:
        found.append(f"Those of {listed(untuned)} were set beforehand, without tuning here.")
    return found


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _scores(rows: Sequence[Row], words: Words, confidence: float) -> str:
    metrics = "; ".join(
        f"{words.title(name)} ({words.metrics[name]['definition']})" for name in words.compared
    )
    alone = any(row["seeds"] < 2 for row in rows)
    one = " With one seed, an interval is about that run alone." if alone else ""
    return (
        f"Scores on the {tested_on(rows[0], words)} are means over seeds: {metrics}. Intervals are "
        f"{100 * confidence:g} % of a crossed random-effects design in which {words.group}s and "
        "seeds vary: each score enters by the jackknife, and Student's t is weighted by the parts "
        f"of the variance (Cochran and Cox).{one}"
    )


def _tests(rows: Sequence[Row], words: Words, tested: Sequence[str]) -> list[str]:
    reference = rows[0]["reference_arm"]
    if reference is None or len(rows) < 2:
        return []
    titles = listed([words.title(metric) for metric in tested])
    margins = [
        f"{plain(margin, words.metrics[metric]['digits'])} in {words.title(metric)}"
        for metric in tested
        for margin in {row.get(f"{metric}_margin") for row in rows if row["arm"] != reference}
        if margin is not None
    ]
    count = (len(rows) - 1) * len(tested)
    corrected = f", corrected by Holm's method over {count} tests" if count > 1 else ""
    margin = f"; the margin of non-inferiority was {listed(margins)}" if margins else ""
    return [
        f"Arms were compared with {reference} by differences paired by {words.group} in {titles}; "
        f"p values are two-sided{corrected}{margin}."
    ]


def _controls(rows: Sequence[Row], words: Words) -> list[str]:
    found = []
    if words.baselines:
        lines = listed([f"“{title}”" for title in words.baselines.values()])
        found.append(f"Beside them stand predictions without training: {lines}.")
    if rows[0][f"{words.headline}_shuffled"] is not None:
        found.append(
            "As a control, every model was also scored with the inputs of the test "
            f"{words.example}s permuted among themselves."
        )
    return found


def _software(rows: Sequence[Row], manifest: Mapping[str, Any]) -> str:
    found = manifest["packages"]
    releases = [f"{name} {found[name]}" for name in NAMED if found.get(name)]
    devices = list(dict.fromkeys(str(row["device"]) for row in rows if row["epochs"]))
    where = f" Training ran on {listed(devices)}." if devices else ""
    return (
        f"Software: peft-ablation {version_text(manifest['code'])}, Python {manifest['python']}, "
        f"{listed(releases)}.{where}"
    )


def latex_table(rows: Sequence[Row], words: Words, *, study: str, confidence: float) -> str:
    r"""Return a `table` environment for LaTeX with `\usepackage{booktabs}`."""
    reference, head = rows[0]["reference_arm"], words.headline
    header = ["arm", *map(words.title, words.compared)]
    difference = any(row[f"{head}_difference"] is not None for row in rows)
    if difference:
        header.append(f"difference in {words.title(head)}")
    header += ["trained parameters", "training (s)", "peak memory (MB)"]
    lines = []
    for row in rows:
        cells = [row["arm"]]
        cells += [
            with_interval(row, name, words.metrics[name]["digits"]) for name in words.compared
        ]
        if difference:
            digits = words.metrics[head]["digits"]
            cells.append(with_interval(row, f"{head}_difference", digits, "+"))
        cells.append(f"{row['trainable_parameters']:,}")
        cells += [plain(row["train_seconds"], 1), plain(row["peak_memory_mb"], 0)]
        lines.append(cells)
    against = f" Differences are to {reference}." if difference else ""
    told = (
        f"Study {study}: {tested_on(rows[0], words)}; means over seeds with {100 * confidence:g} % "
        f"intervals over {words.group}s and seeds.{against}"
    )
    body = "\n".join(f"{' & '.join(map(_latex, cells))} \\\\" for cells in lines)
    return (
        "% Needs \\usepackage{booktabs}.\n"
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_latex(told)}}}\n\\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', study)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n"
        f"{' & '.join(_latex(sentence(cell)) for cell in header)} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


_SPECIAL: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", NONE: "--",
}  # fmt: skip


def _latex(text: str) -> str:
    """Return plain text as LaTeX sets it, the signs of numbers as signs."""
    escaped = "".join(_SPECIAL.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w.])([+-])(?=\d)", r"$\1$", escaped)
