"""Splits: nobody in two of them, labels balanced, and the published division by image."""

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cohort_tables import examples_of, random_table, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from tiny_study import UNITS

from peft_ablation.artifacts import read_json
from peft_ablation.data.splits import (
    SPLITS,
    assign_units,
    balance_of,
    leakage,
    split_images,
    split_table,
    verdict,
)
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.cohort import query_metadata
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.reports import write_reports
from peft_ablation.sources.mimic.sampling import sample_table

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def split(folder, table, unit="subject", shares=SHARES, seed=33, given="keep", units=UNITS):
    examples = table if "balance" in table.columns else examples_of(table)
    examples.write_parquet(folder / "examples.parquet")
    split_table(
        folder / "examples.parquet",
        unit=unit,
        units=units,
        given=given,
        shares=shares,
        seed=seed,
        outputs={name: folder / f"{name}.parquet" for name in SPLITS},
        csv={name: folder / f"{name}.csv" for name in SPLITS},
        balance=folder / "balance.csv",
        account=folder / "account.json",
    )
    parts = {name: pl.read_parquet(folder / f"{name}.parquet") for name in SPLITS}
    return parts, pl.read_csv(folder / "balance.csv"), read_json(folder / "account.json")


def in_two_splits(parts, keys):
    sets = [set(part.select(keys).iter_rows()) for part in parts.values()]
    return (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_subject_in_two_splits(tmp_path, seed):
    table = examples_of(random_table(rows=301))
    parts, _, account = split(tmp_path, table, seed=seed)
    assert not in_two_splits(parts, ["subject_id"])
    assert account["leakage"]["subject"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    together = pl.concat(parts.values()).sort("dicom_id")
    assert together.equals(table)


def test_studies_stay_whole_but_subjects_do_not(tmp_path):
    table = random_table(rows=300).with_columns(study_id=pl.col("study_id") // 2)
    table = table.with_columns(subject_id=pl.col("subject_id") // 4)
    parts, _, account = split(tmp_path, table, unit="study")
    assert not in_two_splits(parts, ["study_id"])
    shared = in_two_splits(parts, ["subject_id"])
    assert shared
    pairs = account["leakage"]["subject"]
    assert len(shared) <= sum(pairs.values())
    train, val, _ = (set(parts[name]["subject_id"]) for name in SPLITS)
    assert pairs["train_val"] == len(train & val)


def test_division_by_image_is_the_published_one(tmp_path):
    """Reference: the two calls as published, test 0.2 first and then 0.25 of the rest."""
    table = random_table(rows=500)
    labels = table.select(LABELS).fill_null(0).to_numpy()

    def divide(rows, share):
        division = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=33)
        kept, taken = next(division.split(rows, labels[rows]))
        return rows[kept], rows[taken]

    rest, test = divide(np.arange(500), 0.2)
    train, val = divide(rest, 0.25)
    parts, _, account = split(tmp_path, table, unit="image")
    for name, rows in (("train", train), ("val", val), ("test", test)):
        assert parts[name]["dicom_id"].to_list() == table["dicom_id"][sorted(rows)].to_list()
    assert account["leakage"]["subject"]["train_test"] > 0


def test_suspicion_counts_as_positive_by_image_alone():
    """The cast to bool, as published: -1 weighs as 1, but is no positive in the balance."""
    suspected = [{"Edema": -1}] * 50 + [{"Edema": 0}] * 50
    present = [{"Edema": 1}] * 50 + [{"Edema": 0}] * 50
    shares = np.array([0.6, 0.2, 0.2])
    one, other = (
        split_images(examples_of(table_of(*rows)), shares, 33) for rows in (suspected, present)
    )
    assert one.tolist() == other.tolist()
    assert np.bincount(one[:50]).tolist() == [30, 10, 10]
    table = examples_of(table_of(*suspected))
    assert balance_of({"train": table, "val": table, "test": table})["positives_val"].sum() == 0


def full_scale(seed=0):
    """Positives of the published sample, correlated within subjects of very unequal size."""
    published = [
        16386,
        15066,
        4943,
        9710,
        3770,
        4733,
        5237,
        21238,
        21076,
        2083,
        7298,
        7366,
        26705,
        8048,
    ]
    random = np.random.default_rng(seed)
    rows, subjects = 66_734, 30_000
    weight = random.pareto(1.5, subjects) + 0.3
    subject = np.concatenate(
        [np.arange(subjects), random.choice(subjects, rows - subjects, p=weight / weight.sum())]
    )
    counts = np.zeros((subjects, 15))
    counts[:, 0] = np.bincount(subject)
    for column, positives in enumerate(published, start=1):
        score = 1.5 * random.normal(size=subjects)[subject] + random.normal(size=rows)
        chosen = np.argsort(score)[-positives:]
        counts[:, column] = np.bincount(subject[chosen], minlength=subjects)
    return counts


def variation(counts, assigned):
    held = np.stack([counts[assigned == k].sum(axis=0) for k in range(3)])
    prevalence = held[:, 1:] / held[:, :1]
    return held, prevalence.std(axis=0) / prevalence.mean(axis=0)


def test_subjects_at_full_scale_are_balanced_below_0_7_percent():
    counts = full_scale()
    shares = np.array([0.6, 0.2, 0.2])
    held, each = variation(counts, assign_units(counts, shares, seed=33))
    assert each.max() <= 0.007
    assert np.abs(held[:, 0] / held[:, 0].sum() - shares).max() < 0.001
    random = np.random.default_rng(0).choice(3, size=len(counts), p=shares)
    assert variation(counts, random)[1].max() > 0.02


def test_few_lumpy_units_are_divided_nearly_as_well_as_can_be():
    """Against every possible division of eight units, by the sum that the division minimises."""
    shares = np.array([0.6, 0.2, 0.2])
    everything = np.array(list(product(range(3), repeat=8)))
    possible = everything[[len(set(row)) == 3 for row in everything.tolist()]]
    ratios = []
    for seed in range(12):
        source = np.random.default_rng(seed)
        counts = source.integers(1, [30, 12, 6], size=(8, 3)).astype(float)
        wanted = np.outer(shares, counts.sum(axis=0))

        def deviation(assigned, counts=counts, wanted=wanted):
            held = np.stack([(assigned == k) @ counts for k in range(3)], axis=-2)
            return ((held / wanted - 1) ** 2).sum(axis=(-2, -1))

        found = deviation(assign_units(counts, shares, seed))
        ratios.append(found / deviation(possible).min())
    assert min(ratios) >= 1 - 1e-9
    assert sum(ratio < 1 + 1e-9 for ratio in ratios) >= 6
    assert np.mean(ratios) < 1.2


def test_no_unit_would_be_better_off_elsewhere():
    """What moving single units is for: the sum after any one move is no smaller."""
    shares = np.array([0.6, 0.2, 0.2])
    for seed in range(5):
        source = np.random.default_rng(seed)
        counts = source.integers([1, 0, 0, 0], [30, 6, 6, 6], size=(40, 4)).astype(float)
        wanted = np.outer(shares, counts.sum(axis=0))
        assigned = assign_units(counts, shares, seed)

        def deviation(assigned, counts=counts, wanted=wanted):
            held = np.stack([counts[assigned == k].sum(axis=0) for k in range(3)])
            return ((held / wanted - 1) ** 2).sum()

        least = deviation(assigned)
        for unit, split in product(range(40), range(3)):
            moved = assigned.copy()
            moved[unit] = split
            assert deviation(moved) >= least - 1e-12


def test_empty_splits_get_the_smallest_units_of_the_fullest():
    """Train wants 98 of 100 rows and so holds all four; val takes the 10 and test the next, 20."""
    counts = np.array([[40.0], [30.0], [20.0], [10.0]])
    assert assign_units(counts, np.array([0.98, 0.01, 0.01]), seed=0).tolist() == [0, 0, 2, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(0, 5), st.data())
def test_no_split_is_empty_and_every_unit_has_one(units, seed, data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=units, max_size=units))
    counts = np.zeros((units, 15))
    counts[:, 0] = sizes
    counts[:, 1] = [size // 2 for size in sizes]
    assigned = assign_units(counts, np.array([0.98, 0.01, 0.01]), seed)
    assert set(assigned.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("unit", ["subject", "study", "image"])
def test_same_seed_same_bytes(tmp_path, unit):
    table = random_table(rows=200)
    names = [f"{name}.{ending}" for name in SPLITS for ending in ("parquet", "csv")]
    names += ["balance.csv", "account.json"]
    written = []
    for attempt in ("one", "two"):
        (tmp_path / attempt).mkdir()
        split(tmp_path / attempt, table, unit=unit)
        written.append([(tmp_path / attempt / name).read_bytes() for name in names])
    assert written[0] == written[1]


def test_order_of_the_input_is_kept_and_seeds_differ(tmp_path):
    table = random_table(rows=200)
    parts, _, _ = split(tmp_path, table, seed=1)
    assert all(part["dicom_id"].is_sorted() for part in parts.values())
    others, _, _ = split(tmp_path, table, seed=2)
    assert parts["test"]["dicom_id"].to_list() != others["test"]["dicom_id"].to_list()


def test_account_by_hand(tmp_path):
    parts, balance, account = split(tmp_path, random_table(rows=200))
    rows = {name: part.height for name, part in parts.items()}
    assert (account["rows_in"], account["rows"]) == (200, rows)
    assert account["shares"] == {name: height / 200 for name, height in rows.items()}
    for unit, column in (("subject", "subject_id"), ("study", "study_id"), ("image", "dicom_id")):
        held = {name: len(set(part[column])) for name, part in parts.items()}
        assert account["units"][unit] == held
    variation = sorted(balance["coefficient_of_variation"])
    assert account["coefficient_of_variation_max"] == pytest.approx(variation[-1])
    middle = (variation[6] + variation[7]) / 2  # of 14 labels
    assert account["coefficient_of_variation_median"] == pytest.approx(middle)
    assert sum(account["verdicts"].values()) == 14
    assert account["verdicts"]["poor"] == sum(value >= 0.05 for value in variation)


def test_balance_by_hand():
    """Prevalences 1/2, 1/4, 1/4: mean 1/3, population deviation 0.1179, ratio 0.3536."""
    edema, none, suspected = {"Edema": 1}, {"Edema": 0}, {"Edema": -1}
    quarter = examples_of(table_of(edema, none, none, suspected))
    half = examples_of(table_of(edema, none))
    balance = balance_of({"train": half, "val": quarter, "test": quarter})
    row = balance.filter(label="Edema").row(0, named=True)
    assert (row["positives_train"], row["positives_val"]) == (1, 1)
    assert (row["prevalence_train"], row["prevalence_test"]) == (0.5, 0.25)
    assert row["coefficient_of_variation"] == pytest.approx(0.5**0.5 / 2)
    assert row["verdict"] == "poor"
    fracture = balance.filter(label="Fracture").row(0, named=True)
    assert fracture["coefficient_of_variation"] is None
    assert fracture["verdict"] == "no positives"
    assert balance["label"].to_list() == list(LABELS)


def test_published_verdicts():
    """The published split calls 1.5 % excellent, 2.3 % and 3.1 % moderate."""
    assert [verdict(v) for v in (0.0, 0.015, 0.0199, 0.02, 0.031, 0.05, None)] == [
        "excellent",
        "excellent",
        "excellent",
        "moderate",
        "moderate",
        "poor",
        "no positives",
    ]


def examples(**columns):
    """Return an examples table without labels: `example_id`, `group`, `split`, more columns."""
    number = len(next(iter(columns.values())))
    told = {
        "example_id": [f"e{row}" for row in range(number)],
        "split": pl.Series([None] * number, dtype=pl.String),
        "balance": pl.Series([[]] * number, dtype=pl.List(pl.String)),
        **columns,
    }
    table = pl.DataFrame(told | {"group": told.get("group", told["example_id"])})
    return table.with_columns(pl.col("split").cast(pl.String))


GROUPS = {"group": ("group",)}


def division(folder, table, **settings):
    parts, _, _ = split(folder, table, unit="group", units=GROUPS, **settings)
    return {name: part["example_id"].to_list() for name, part in parts.items()}


def test_splits_of_the_source_are_kept(tmp_path):
    given = ["test", "train", "val", "train", "train"]
    kept = division(tmp_path, examples(split=given))
    assert kept == {"train": ["e1", "e3", "e4"], "val": ["e2"], "test": ["e0"]}


def test_a_split_that_the_source_lacks_is_cut_from_its_training_rows(tmp_path):
    """Of 80 training rows a quarter becomes validation: shares 0.6 and 0.2 of what is left."""
    given = ["train"] * 80 + ["test"] * 10
    parts = division(tmp_path, examples(split=given))
    assert parts["test"] == [f"e{row}" for row in range(80, 90)]
    assert (len(parts["train"]), len(parts["val"])) == (60, 20)
    assert sorted(parts["train"] + parts["val"]) == sorted(f"e{row}" for row in range(80))


def test_merged_splits_of_the_source_are_divided_anew(tmp_path):
    given = ["train"] * 80 + ["test"] * 20
    parts = division(tmp_path, examples(split=given), given="merge")
    assert [len(parts[name]) for name in SPLITS] == [60, 20, 20]
    assert parts["test"] != [f"e{row}" for row in range(80, 100)]
    (tmp_path / "anew").mkdir()
    assert parts == division(tmp_path / "anew", examples(split=[None] * 100))


def test_a_group_is_kept_together_when_a_lacking_split_is_cut(tmp_path):
    groups = [f"g{row // 4}" for row in range(40)] + ["g100"] * 4
    table = examples(split=["train"] * 40 + ["val"] * 4, group=groups)
    parts, _, account = split(tmp_path, table, unit="group", units=GROUPS)
    assert account["leakage"]["group"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    assert {name: part.height for name, part in parts.items()}["val"] == 4


def test_what_splits_are_balanced_by_is_found_where_no_list_names_it(tmp_path):
    labels = [["cat"], ["dog"], ["cat"], ["cat"], ["dog"], ["dog"]] * 10
    _, balance, _ = split(tmp_path, examples(balance=labels), unit="group", units=GROUPS)
    assert balance["label"].to_list() == ["cat", "dog"]
    assert [balance[f"positives_{name}"].to_list() for name in SPLITS] == [
        [18, 18],
        [6, 6],
        [6, 6],
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": ["train", None, "test"]}, r"1 of 3 rows have no split.*set split\.given: merge"),
        ({"split": ["val", "val", "test"]}, r"gives no training split; set split\.given: merge"),
        ({"label": ["a"] * 9}, r"all rows are of one class, 'a', expected two or more"),
        (
            {"split": ["train"] * 2 + ["val"] * 2 + ["test"], "label": ["a", "b", "a", "b", "a"]},
            r"class 'b' is missing from split test \(1 of 2 classes are\)",
        ),
    ],
)
def test_a_division_that_no_study_can_use_is_refused_in_one_line(tmp_path, columns, message):
    with pytest.raises(InputError, match=message) as error:
        division(tmp_path, examples(**columns))
    assert "\n" not in str(error.value)


def test_leakage_by_hand():
    rows = table_of(*[{"Edema": 1}] * 4)  # subjects 10, 10, 11, 11
    parts = {"train": rows[:1], "val": rows[1:3], "test": rows[3:]}
    assert leakage(parts, ("subject_id",)) == {"train_val": 1, "train_test": 0, "val_test": 1}
    assert leakage(parts, ("subject_id", "study_id")) == dict.fromkeys(
        ("train_val", "train_test", "val_test"), 0
    )


@pytest.mark.parametrize(("unit", "rows"), [("subject", 4), ("study", 2), ("image", 2)])
def test_fewer_units_than_splits_is_refused(tmp_path, unit, rows):
    with pytest.raises(InputError, match=f"2 {unit}s in {rows} rows") as error:
        split(tmp_path, table_of(*[{"Edema": 1}] * rows), unit=unit)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["examples.parquet"]


def test_too_few_images_for_a_share_is_refused(tmp_path):
    with pytest.raises(InputError, match="too few for val"):
        split(
            tmp_path,
            table_of(*[{"Edema": 1}] * 3),
            unit="image",
            shares={"train": 0.34, "val": 0.02, "test": 0.64},
        )


def test_real_tree_through_the_chain(tmp_path, shared_data):
    """Positives at every step equal those counted from the CSVs for the images still there."""
    root = shared_data / "nih-cxr-mimic-layout"
    csvs = [root / f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "chexpert")]
    query_metadata(
        Path(__file__).resolve().parents[3] / "resources" / "query_metadata.sql",
        metadata=csvs[0],
        chexpert=csvs[1],
        views=["AP", "PA"],
        limit=None,
        cloud=None,
        output=tmp_path / "metadata.parquet",
        account=tmp_path / "metadata.json",
    )
    sample_table(
        tmp_path / "metadata.parquet",
        strategy="rarest_first",
        quota=40,
        count_values=[1],
        seed=42,
        absent_labels="skip",
        output=tmp_path / "sampled.parquet",
        csv=tmp_path / "sampled.csv",
        account=tmp_path / "sampled.account.csv",
    )
    write_reports(
        tmp_path / "sampled.parquet",
        template="corrected",
        unmentioned="drop",
        output=tmp_path / "made.parquet",
        account=tmp_path / "made.json",
    )
    parts, balance, account = split(tmp_path, pl.read_parquet(tmp_path / "made.parquet"))
    spelt = {label: label.replace("_", " ") for label in LABELS}
    chexpert = pl.read_csv(csvs[1], schema_overrides=dict.fromkeys(spelt.values(), pl.Float64))
    images = pl.read_csv(csvs[0]).join(chexpert, on=["subject_id", "study_id"])
    for name, part in parts.items():
        there = images.filter(pl.col("dicom_id").is_in(part["dicom_id"].implode()))
        assert there.height == part.height
        for label, column in spelt.items():
            expected = there.filter(pl.col(column) == 1).height
            assert part.filter(pl.col(label) == 1).height == expected
            assert balance.filter(label=label)[f"positives_{name}"].item() == expected
    sampled = pl.read_csv(tmp_path / "sampled.account.csv")
    for label, column in spelt.items():
        row = sampled.filter(label=label).row(0, named=True)
        assert row["available"] == images.filter(pl.col(column) == 1).height
        assert row["final_positives"] == sum(
            balance.filter(label=label)[f"positives_{name}"].item() for name in SPLITS
        )
        assert row["final_positives"] >= min(40, row["available"])
    assert not in_two_splits(parts, ["subject_id"])
    assert sum(account["rows"].values()) == pl.read_parquet(tmp_path / "sampled.parquet").height


def test_a_great_many_units_are_dealt_out_by_their_shares(tmp_path, monkeypatch):
    """Whole groups, every label shared evenly, and as evenly as one by one."""
    source = np.random.default_rng(0)
    groups = source.integers(0, 900, 3000)
    labels = [[f"l{label}"] for label in source.choice(4, 3000, p=[0.5, 0.3, 0.15, 0.05])]
    table = examples(group=[f"g{group}" for group in groups], balance=labels)
    worst = {}
    for limit in (100, 100_000):
        (tmp_path / str(limit)).mkdir()
        monkeypatch.setattr("peft_ablation.data.splits._ONE_BY_ONE", limit)
        parts, _, account = split(tmp_path / str(limit), table, unit="group", units=GROUPS)
        assert not in_two_splits(parts, ["group"])
        assert pl.concat(parts.values()).height == 3000
        wanted = {"train": 1800, "val": 600, "test": 600}
        assert all(abs(account["rows"][name] - wanted[name]) <= 5 for name in SPLITS)
        worst[limit] = account["coefficient_of_variation_max"]
    assert worst[100] < 0.01
    monkeypatch.setattr("peft_ablation.data.splits._ONE_BY_ONE", 100)
    (tmp_path / "other").mkdir()
    other, _, _ = split(tmp_path / "other", table, unit="group", units=GROUPS, seed=1)
    assert other["test"]["example_id"].to_list() != parts["test"]["example_id"].to_list()


def test_a_label_that_a_row_has_twice_counts_once():
    part = examples(balance=[["a", "a"], ["b"]])
    balance = balance_of({"train": part, "val": part, "test": part})
    assert balance["positives_train"].to_list() == [1, 1]


def test_units_alike_are_divided_to_the_unit(tmp_path, monkeypatch):
    """Of 50 rows of one class and 30 of another: 30, 10, 10 and 18, 6, 6."""
    monkeypatch.setattr("peft_ablation.data.splits._ONE_BY_ONE", 10)
    table = examples(balance=[["a"]] * 50 + [["b"]] * 30)
    parts, _, _ = split(tmp_path, table, unit="group", units=GROUPS)
    held = [
        part["balance"].list.first().value_counts(sort=True)["count"] for part in parts.values()
    ]
    assert [counts.to_list() for counts in held] == [[30, 18], [10, 6], [10, 6]]
    drawn = set(parts["train"]["example_id"])
    assert not drawn >= set(sorted(table["example_id"][:50])[:30])  # not taken in order


def test_equal_texts_in_two_splits_are_counted(tmp_path):
    """Alike but for case and white space; a pair counts by each of its texts, and as a whole."""
    table = examples(
        split=["train", "train", "val", "test", "test"],
        text=["A cat.", "b", "a  CAT. ", "b", "c"],
        text_pair=["x", "y", "z", "y", "x"],
    )
    _, _, account = split(tmp_path, table, unit="group", units=GROUPS)
    assert account["equal_texts"] == {
        "text": {"train_val": 1, "train_test": 1, "val_test": 0},
        "text_pair": {"train_val": 0, "train_test": 2, "val_test": 0},
        "text, text_pair": {"train_val": 0, "train_test": 1, "val_test": 0},
    }
