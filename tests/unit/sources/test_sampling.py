"""The draw by label: worked examples, a row-by-row reference, and the account."""

import numpy as np
import polars as pl
import pytest
from cohort_tables import random_table, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.sampling import NOT_MENTIONED, draw, label_matrix, sample_table

MATRICES = arrays(
    np.int8,
    st.tuples(st.integers(1, 60), st.just(14)),
    elements=st.sampled_from([1, 0, -1, NOT_MENTIONED]),
)
COUNTED = st.sampled_from([(1,), (1, -1), (0,)])


def sample(folder, table, name="sample", **settings):
    table.write_parquet(folder / "metadata.parquet")
    paths = {
        "output": folder / f"{name}.parquet",
        "csv": folder / f"{name}.csv",
        "account": folder / f"{name}.account.csv",
    }
    defaults = {
        "strategy": "rarest_first",
        "quota": 5,
        "count_values": [1],
        "seed": 0,
        "absent_labels": "skip",
    }
    sample_table(folder / "metadata.parquet", **{**defaults, **settings}, **paths)
    return pl.read_parquet(paths["output"]), pl.read_csv(paths["account"])


def charged_row_by_row(labels, quota, count_values, seed):
    """The published loop: walk the shuffle once, charge to the first label with an open quota."""
    left = [min(quota, int((labels[:, label] == 1).sum())) for label in range(14)]
    charged = np.full(len(labels), -1)
    for row in np.random.default_rng(seed).permutation(len(labels)):
        for label in range(14):
            if labels[row, label] in count_values and left[label] > 0:
                left[label] -= 1
                charged[row] = label
                break
    return charged


@settings(deadline=None)
@given(MATRICES, st.integers(1, 12), COUNTED, st.integers(0, 3))
def test_first_open_quota_is_the_published_walk(labels, quota, count_values, seed):
    drawn = draw(labels, "first_open_quota", quota, count_values, seed)
    assert drawn.charged.tolist() == charged_row_by_row(labels, quota, count_values, seed).tolist()


@settings(deadline=None)
@given(MATRICES, st.integers(1, 12), COUNTED, st.integers(0, 3))
def test_rarest_first_gives_each_label_its_quota_or_all_it_has(labels, quota, count_values, seed):
    drawn = draw(labels, "rarest_first", quota, count_values, seed)
    counts = np.isin(labels, count_values)
    in_sample = counts[drawn.charged >= 0].sum(axis=0)
    assert (in_sample >= np.minimum(quota, counts.sum(axis=0))).all()
    assert list(counts.sum(axis=0)[list(drawn.order)]) == sorted(counts.sum(axis=0))
    for row in np.flatnonzero(drawn.charged >= 0):
        assert counts[row, drawn.charged[row]]
    # A label is charged its quota, unless rarer labels have left it fewer rows.
    for position, label in enumerate(drawn.order):
        earlier = drawn.order[:position]
        left = counts[~np.isin(drawn.charged, earlier), label].sum()
        assert (drawn.charged == label).sum() == min(quota, left)


def test_rarest_label_draws_first_by_hand(tmp_path):
    """Two fractures, three edemas; the rows with both are charged to the rarer fracture."""
    both, edema, neither = {"Fracture": 1, "Edema": 1}, {"Edema": 1}, {"Edema": 0}
    sampled, account = sample(tmp_path, table_of(both, neither, edema, both), quota=2)
    assert sampled["charged_label"].to_list() == ["Fracture", "Edema", "Fracture"]
    assert sampled["dicom_id"].to_list() == ["image-0000", "image-0002", "image-0003"]
    rows = {row["label"]: row for row in account.iter_rows(named=True)}
    assert rows["Edema"] == {
        "label": "Edema",
        "available": 3,
        "positives": 3,
        "quota": 2,
        "charged": 1,
        "final_positives": 3,
        "final_suspected": 0,
        "final_absent": 0,
        "final_not_mentioned": 0,
    }
    assert rows["Fracture"]["charged"] == 2
    assert rows["Fracture"]["final_not_mentioned"] == 1
    assert account["label"].to_list()[-2:] == ["Fracture", "Edema"]


def test_equally_rare_labels_draw_in_their_order():
    labels = np.ones((3, 14), dtype=np.int8)
    labels[0, 5] = 0
    drawn = draw(labels, "rarest_first", 1, (1,), seed=0)
    assert drawn.order == (5, *(label for label in range(14) if label != 5))
    # Three rows: of the labels that all have one, the first two get what is left.
    assert sorted(drawn.charged.tolist()) == [0, 1, 5]


def test_published_quota_is_bounded_by_positives_though_suspicions_count():
    """As published: Pleural Other has a quota of its 2,083 positives, not of its suspicions too."""
    labels = np.full((9, 14), NOT_MENTIONED, dtype=np.int8)
    labels[:2, 9] = 1
    labels[2:, 9] = -1
    published = draw(labels, "first_open_quota", 5, (1, -1), seed=0)
    rarest = draw(labels, "rarest_first", 5, (1, -1), seed=0)
    assert (published.charged == 9).sum() == 2
    assert (rarest.charged == 9).sum() == 5


@pytest.mark.parametrize("strategy", ["rarest_first", "first_open_quota"])
def test_same_seed_same_bytes_and_another_seed_another_draw(tmp_path, strategy):
    table = random_table()
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        sample(tmp_path, table, name, strategy=strategy, seed=seed)
    for ending in ("parquet", "csv", "account.csv"):
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two
    assert (tmp_path / "one.csv").read_bytes() != (tmp_path / "three.csv").read_bytes()


def test_sample_keeps_order_columns_and_values(tmp_path):
    table = random_table()
    sampled, account = sample(tmp_path, table, quota=10)
    assert sampled.columns == [*table.columns, "charged_label"]
    assert sampled["dicom_id"].is_sorted()
    expected = table.filter(pl.col("dicom_id").is_in(sampled["dicom_id"].implode()))
    assert sampled.drop("charged_label").equals(expected)
    assert account["charged"].sum() == sampled.height
    finals = account.select(pl.col("^final_.*$")).sum_horizontal()
    assert finals.to_list() == [sampled.height] * 14


def test_label_without_a_positive_is_refused_or_skipped(tmp_path):
    rows = [{label: 1 for label in LABELS if label not in ("Fracture", "Pleural_Other")}] * 4
    rows[0] = rows[0] | {"Fracture": -1}
    with pytest.raises(InputError) as error:
        sample(tmp_path, table_of(*rows), absent_labels="fail")
    line = str(error.value)
    assert "Fracture, Pleural Other" in line and "sample.absent_labels: skip" in line
    assert "\n" not in line
    assert not (tmp_path / "sample.parquet").exists()
    _, account = sample(tmp_path, table_of(*rows), absent_labels="skip")
    assert account.filter(label="Fracture")["charged"].item() == 0


def test_nothing_to_draw_is_refused_even_with_skip(tmp_path):
    with pytest.raises(InputError, match="no row has value 1 for any label"):
        sample(tmp_path, table_of({"Edema": 0}, {"Edema": -1}, {}))


def test_quota_of_zero_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"sample\.quota: found 0"):
        sample(tmp_path, table_of({"Edema": 1}), quota=0)


def test_label_matrix_codes_null_apart_from_absent():
    matrix = label_matrix(table_of({"Edema": 0, "No_Finding": 1}, {"Edema": -1}))
    assert matrix[:, LABELS.index("Edema")].tolist() == [0, -1]
    assert matrix[:, LABELS.index("No_Finding")].tolist() == [1, NOT_MENTIONED]
