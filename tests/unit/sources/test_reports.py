"""Templates: labels to text to labels, and what a model's text is read as."""

from collections import Counter

import polars as pl
import pytest
from cohort_tables import table_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES
from peft_ablation.sources.mimic.reports import (
    TEMPLATES,
    load_template,
    normalise,
    template_from,
    write_reports,
)

ROWS = st.fixed_dictionaries({label: st.sampled_from([None, 1, 0, -1]) for label in LABELS})
FULL = {value: dict.fromkeys(LABELS, value) for value in (1, 0, -1)}


def mentioned(row):
    return {label: value for label, value in row.items() if value is not None}


@pytest.mark.parametrize("name", ["corrected", "plain"])
@settings(deadline=None)
@given(row=ROWS)
@example(row=FULL[1])
@example(row=FULL[0])
@example(row=FULL[-1])
@example(row=dict.fromkeys(LABELS))
def test_labels_to_text_to_labels_is_exact(name, row):
    template = load_template(name)
    text = template.render(row, "sentence")
    for written in (text, normalise(text), text.upper()):
        parsed = template.parse(written)
        assert parsed.labels == mentioned(row)
        assert (parsed.unparsed, parsed.contradicted, parsed.repeated) == ((), (), 0)


@settings(deadline=None)
@given(row=ROWS)
def test_as_published_loses_no_finding_and_nothing_else(row):
    """Known loss: No Finding = 1 is never said, so an image with no other label says nothing."""
    template = load_template("as_published")
    text = template.render(row)
    kept = mentioned(row)
    if kept.get("No_Finding") == 1:
        del kept["No_Finding"]
    assert (text is None) == (not kept)
    assert template.parse(text or "").labels == kept
    assert template.render(row, "sentence") == (text or "")


def test_published_sentences_by_hand():
    row = {"Edema": 1, "Pleural_Effusion": 0, "Lung_Opacity": -1, "No_Finding": 0}
    pathologies = (
        "Evidence of edema is present. There is suspicion of lung opacity. "
        "No evidence of pleural effusion."
    )
    published = load_template("as_published")
    assert published.render(row) == f"Abnormal findings are present. {pathologies}"
    assert published.render({"No_Finding": -1}) == "The image quality or findings are uncertain."
    plain = load_template("plain")
    assert plain.render(row) == f"{pathologies} No evidence of no finding."


def test_normal_can_fire_and_never_stands_beside_a_finding():
    corrected = load_template("corrected")
    normal = "The chest X-ray appears normal with no acute findings."
    assert corrected.render({"No_Finding": 1}) == normal
    assert corrected.render({"No_Finding": 1, "Support_Devices": 1}).startswith(normal)
    assert corrected.render({"No_Finding": 1, "Edema": 0}).startswith(normal)
    for label in PATHOLOGIES:
        if label != "Support_Devices":
            for value in (1, -1):
                text = corrected.render({"No_Finding": 1, label: value})
                assert "normal" not in text
                assert corrected.parse(text).labels == {"No_Finding": 1, label: value}


@settings(deadline=None)
@given(row=ROWS)
def test_corrected_never_says_both_normal_and_abnormal(row):
    text = load_template("corrected").render(row, "sentence")
    assert not ("appears normal" in text and "Abnormal" in text)


@pytest.fixture(scope="module")
def uncased():
    """A WordPiece tokenizer that, like git-base's, lowers case and splits at punctuation."""
    texts = (
        load_template(name).render(row, "sentence")
        for name in TEMPLATES
        for row in (*FULL.values(), {"No_Finding": 1}, {})
    )
    words = sorted({word for text in texts for word in normalise(text).split()})
    # Words of which some are only there in pieces.
    pieces = sorted({"##" + word[3:] for word in words if len(word) > 8})
    vocabulary = ["[UNK]", *(word if len(word) <= 8 else word[:3] for word in words), *pieces]
    tokens = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


@pytest.mark.parametrize("name", ["corrected", "plain"])
@settings(deadline=None)
@given(row=ROWS)
def test_text_decoded_from_uncased_wordpiece_is_read(name, row, uncased):
    template = load_template(name)
    decoded = uncased.decode(uncased.encode(template.render(row, "sentence")).ids)
    assert decoded == decoded.lower()
    assert "[unk]" not in decoded
    parsed = template.parse(decoded)
    assert parsed.labels == mentioned(row)
    assert parsed.unparsed == ()


def test_garbled_text_tells_what_it_could_not_read():
    parsed = load_template("corrected").parse(
        "evidence of edema is present . evidence of of edema present . no evidence of fracture . "
        "no evidence of edema. evidence of edema is present. there is suspicion of pleural"
    )
    assert parsed.labels == {"Edema": 1, "Fracture": 0}
    assert parsed.unparsed == (
        "evidence of of edema present",
        "there is suspicion of pleural",
    )
    assert parsed.contradicted == ("Edema",)
    assert parsed.repeated == 1


def test_last_sentence_counts_without_its_full_stop():
    assert load_template("plain").parse("No evidence of edema").labels == {"Edema": 0}


def test_empty_text_says_nothing():
    for text in ("", " . . ", "\n"):
        parsed = load_template("corrected").parse(text)
        assert (parsed.labels, parsed.unparsed) == ({}, ())


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_can_be_read(text):
    parsed = load_template("corrected").parse(text)
    assert set(parsed.labels) <= set(LABELS)


def test_unknown_template_is_refused():
    with pytest.raises(InputError, match="allowed: corrected, plain, as_published"):
        load_template("correct")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": {"present": "{finding}", "absent": "{finding}", "suspected": "x"}}, "share"),
        ({"sentences": {"present": "{finding}", "absent": "no {finding}"}}, "no sentence for"),
        ({"order": list(LABELS[1:])}, "14 labels"),
        ({"sentence": "x"}, "sentence"),
    ],
)
def test_template_that_could_not_be_read_back_is_refused(change, message):
    content = {
        "order": list(LABELS),
        "sentences": {
            "present": "{finding}.",
            "absent": "No {finding}.",
            "suspected": "Perhaps {finding}.",
        },
        "unmentioned": "Nothing.",
    }
    template_from("sound", content)
    with pytest.raises(InputError, match=message):
        template_from("unsound", content | change)


def reports(folder, table, template="corrected", unmentioned="drop"):
    table.write_parquet(folder / "sampled.parquet")
    write_reports(
        folder / "sampled.parquet",
        template=template,
        unmentioned=unmentioned,
        output=folder / "examples.parquet",
        account=folder / "examples.json",
    )
    return pl.read_parquet(folder / "examples.parquet"), read_json(folder / "examples.json")


MIXED = ({"Edema": 1}, {}, {"No_Finding": 1}, {"Edema": 1})


def test_rows_without_a_mention_are_dropped_and_counted(tmp_path):
    table, account = reports(tmp_path, table_of(*MIXED))
    assert table["dicom_id"].to_list() == ["image-0000", "image-0002", "image-0003"]
    assert table["report"][0] == "Evidence of edema is present."
    assert account["rows_in"] == 4
    assert account["rows_out"] == 3
    assert account["dropped"] == {"unmentioned": 1, "unsaid": 0}
    assert account["distinct_reports"] == 2
    assert account["longest_report_words"] == 9


def test_rows_without_a_mention_get_the_fixed_sentence(tmp_path):
    table, account = reports(tmp_path, table_of(*MIXED), unmentioned="sentence")
    assert table["report"][1] == "The findings are not described."
    assert account["fixed_sentence"] == 1
    assert account["dropped"] == {"unmentioned": 0, "unsaid": 0}


def test_rows_of_which_the_template_says_nothing_are_counted_apart(tmp_path):
    _, account = reports(tmp_path, table_of(*MIXED), template="as_published")
    assert account["rows_out"] == 2
    assert account["dropped"] == {"unmentioned": 1, "unsaid": 1}


def test_no_report_at_all_is_refused(tmp_path):
    with pytest.raises(InputError, match="none of 2 rows"):
        reports(tmp_path, table_of({}, {}))
    assert not (tmp_path / "examples.parquet").exists()


def test_reports_of_a_table_are_those_of_its_rows(tmp_path):
    rows = [{label: value} for label in LABELS for value in (1, 0, -1)]
    table, _ = reports(tmp_path, table_of(*rows))
    template = load_template("corrected")
    assert table["report"].to_list() == [template.render(row) for row in rows]
    assert max(Counter(table["report"].to_list()).values()) == 1


def test_rows_with_a_report_become_examples(tmp_path):
    rows = ({"Edema": 1, "Fracture": -1, "Pneumonia": 0}, {}, {"No_Finding": 1})
    table, _ = reports(tmp_path, table_of(*rows))
    assert table["example_id"].to_list() == ["image-0000", "image-0002"]
    assert table["group"].to_list() == ["10", "11"]
    assert table["split"].to_list() == [None, None]
    assert table["image"].to_list() == [
        "files/p10/p10/s100/image-0000.jpg",
        "files/p11/p11/s102/image-0002.jpg",
    ]
    assert table["balance"].to_list() == [["Edema"], ["No_Finding"]]
    # In the order of the labels; what the published division counted as a positive.
    assert table["mentioned"].to_list() == [["Edema", "Fracture"], ["No_Finding"]]
    assert table.schema["balance"].inner.categories.to_list() == list(LABELS)
