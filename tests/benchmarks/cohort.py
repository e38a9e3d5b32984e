"""Seconds and peak memory of query → sample → reports → splits at the size of MIMIC-CXR-JPG.

    python tests/benchmarks/cohort.py [--rows 377110] [--unit subject] [--folder FOLDER]

Makes the CSVs of a synthetic tree without images (as many rows, studies and subjects, and about as
many positives a label, as MIMIC-CXR-JPG has), then runs each stage in a process of its own, as the
workflow does. Seconds are of the whole process: start, imports, reading and writing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from peft_ablation.sources.mimic.labels import LABELS

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ("train", "val", "test")
IMAGES = 377_110
IMAGES_A_STUDY = 377_110 / 227_835
STUDIES_A_SUBJECT = 227_835 / 65_379
VIEWS = {"AP": 0.39, "PA": 0.255, "LATERAL": 0.22, "LL": 0.09, "": 0.045}
# Share of the AP and PA images of MIMIC-CXR-JPG that are positive, in the order of LABELS.
PREVALENCE = (
    np.array(
        [
            48790,
            47673,
            11525,
            29331,
            7657,
            4781,
            6632,
            54769,
            57721,
            2083,
            17222,
            11235,
            73294,
            81117,
        ]
    )
    / 243_324
)

STAGES = {
    "query_metadata": """
from peft_ablation.sources.mimic.cohort import query_metadata
query_metadata({sql!r}, metadata="metadata.csv.gz", chexpert="chexpert.csv.gz", views=["AP", "PA"],
    limit=None, cloud=None, output="metadata.parquet", account="metadata.json")
""",
    "sample_5000_per_label": """
from peft_ablation.sources.mimic.sampling import sample_table
sample_table("metadata.parquet", strategy="rarest_first", quota={quota}, count_values=[1], seed=42,
    output="sampled.parquet", csv="sampled.csv", account="sampled.account.csv")
""",
    "make_reports": """
from peft_ablation.sources.mimic.reports import write_reports
write_reports("sampled.parquet", template="corrected", unmentioned="drop",
    output="examples.parquet", account="examples.json")
""",
    "stratify_splits": """
from peft_ablation.data.splits import SPLITS, split_table
from peft_ablation.sources.mimic import Mimic
split_table("examples.parquet", unit={unit!r}, units=Mimic.units, given="keep",
    shares=dict(train=0.6, val=0.2, test=0.2), seed=33,
    outputs={{name: name + ".parquet" for name in SPLITS}},
    csv={{name: name + ".csv" for name in SPLITS}}, balance="balance.csv", account="account.json")
""",
}


def make_tables(folder: Path, images: int, seed: int = 0) -> None:
    """Write `metadata.csv.gz` and `chexpert.csv.gz` with PhysioNet's headers."""
    random = np.random.default_rng(seed)
    studies = int(images / IMAGES_A_STUDY)
    subjects = int(studies / STUDIES_A_SUBJECT)
    weight = random.pareto(1.8, subjects) + 0.4
    of_study = np.sort(random.choice(subjects, studies, p=weight / weight.sum()))
    study = np.concatenate([np.arange(studies), random.integers(0, studies, images - studies)])
    random.shuffle(study)
    words = random.integers(0, 2**32, size=(5, images), dtype=np.uint64)
    dicom = pl.DataFrame({f"w{i}": word for i, word in enumerate(words)}).select(
        pl.concat_str(
            [pl.col(f"w{i}").cast(pl.String).str.zfill(10) for i in range(5)], separator="-"
        )
    )
    metadata = pl.DataFrame(
        {
            "dicom_id": dicom.to_series(),
            "subject_id": of_study[study] + 10_000_000,
            "study_id": study + 50_000_000,
            "PerformedProcedureStepDescription": ["CHEST (PA AND LAT)"] * images,
            "ViewPosition": random.choice(list(VIEWS), images, p=list(VIEWS.values())),
            "Rows": [3056] * images,
            "Columns": [2544] * images,
            "StudyDate": random.integers(21100101, 22001231, images),
            "StudyTime": random.random(images).round(6) * 235959,
            "ProcedureCodeSequence_CodeMeaning": ["CHEST (PA AND LAT)"] * images,
            "ViewCodeSequence_CodeMeaning": ["postero-anterior"] * images,
            "PatientOrientationCodeSequence_CodeMeaning": ["Erect"] * images,
        }
    )
    # Findings of one subject are alike; of the others 8 % are denied and 3 % suspected.
    cells = {}
    for label, share in zip(LABELS, PREVALENCE, strict=True):
        score = random.normal(size=subjects)[of_study] + random.normal(size=studies)
        positive = score >= np.quantile(score, 1 - share)
        other = random.choice([np.nan, 0.0, -1.0], studies, p=[0.89, 0.08, 0.03])
        cells[label.replace("_", " ")] = np.where(positive, 1.0, other)
    chexpert = pl.DataFrame(
        {
            "subject_id": of_study + 10_000_000,
            "study_id": np.arange(studies) + 50_000_000,
            **{name: pl.Series(values).fill_nan(None) for name, values in cells.items()},
        }
    )
    for name, table in (("metadata", metadata), ("chexpert", chexpert)):
        table.write_csv(folder / f"{name}.csv.gz", compression="gzip")


def run_stage(code: str, folder: Path) -> tuple[float, float]:
    """Run `code` in a fresh interpreter; return its seconds and peak resident megabytes (1e6)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-c", code], cwd=folder, env=environment)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.01)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    watcher.join()
    if status:
        raise subprocess.CalledProcessError(status, "stage")
    return seconds, peak / 1e6


def main() -> None:
    """Make the tables, run the stages, print a line each and the total as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=IMAGES)
    parser.add_argument("--quota", type=int, default=5000)
    parser.add_argument("--unit", choices=["subject", "study", "image"], default="subject")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_tables(folder, options.rows)
        print(f"{options.rows:,} rows, quota {options.quota:,}, unit {options.unit}")
        measured = {}
        for name, template in STAGES.items():
            code = template.format(
                sql=str(ROOT / "resources" / "query_metadata.sql"),
                quota=options.quota,
                unit=options.unit,
            )
            seconds, megabytes = run_stage(code, folder)
            measured[name] = {"seconds": round(seconds, 2), "peak_memory_mb": round(megabytes)}
            print(f"{name:24} {seconds:7.2f} s {megabytes:8.0f} MB", flush=True)
        account = json.loads((folder / "account.json").read_text())
    total = sum(stage["seconds"] for stage in measured.values())
    worst = account["coefficient_of_variation_max"]
    print(f"{'total':24} {total:7.2f} s; {account['rows_in']:,} rows divided, CV max {worst:.2%}")
    print(json.dumps({"stages": measured, "total_seconds": round(total, 2)}))


if __name__ == "__main__":
    main()
