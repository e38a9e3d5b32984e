"""Instruction sets as one table; each format by hand, each wrong row by its line."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.errors import InputError
from peft_ablation.sources.instructions import Instructions, InstructionsData
from peft_ablation.tasks.text_generation.messages import checked_messages


def source_of(root, *sets):
    settings = InstructionsData.model_validate({"source": "instructions", "sets": sets})
    return Instructions(settings, Site(data_root=str(root)), "results/instruct")


def lines(path: Path, *rows, ending="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ending.join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def read(root, form, *rows, **settings):
    """Read rows of a format; return what is said, as (role, text) a message, groups and account."""
    lines(root / "rows.jsonl", *rows)
    table, account = source_of(root, {"format": form, "files": "rows.jsonl", **settings}).read()
    checked_examples(table, "instructions")
    return said(table), table["group"].to_list(), account["sources"][0]


def said(table):
    """Also what the task makes of them is the same: conversations that end with the assistant."""
    checked = checked_messages(table, "table")
    assert checked == table["messages"].to_list()
    return [[(m["role"][0], m["content"]) for m in row] for row in checked]


def refused(root, form, *rows, **settings):
    with pytest.raises(InputError) as caught:
        read(root, form, *rows, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_gsm8k(tmp_path):
    found, groups, account = read(
        tmp_path,
        "gsm8k",
        {"question": "1 + 1?", "answer": "<<1+1=2>>2\n#### 2"},
        {"question": "2 + 2?", "answer": "#### 4"},
    )
    assert found[0] == [("u", "1 + 1?"), ("a", "<<1+1=2>>2\n#### 2")]
    assert groups == ["gsm8k:1", "gsm8k:2"]
    assert account == {
        "source": "gsm8k", "format": "gsm8k", "files": ["rows.jsonl"], "rows": 2,
        "conversations": 2, "dropped": {}, "kept": 2, "turns_dropped": 0,
    }  # fmt: skip


def test_self_instruct_makes_a_conversation_of_each_instance(tmp_path):
    found, groups, account = read(
        tmp_path,
        "self_instruct",
        {"instruction": "Add.", "instances": [{"input": "1 1", "output": "2"},
                                              {"input": "2 2", "output": "4"}]},
        {"instruction": "Say hi.", "instances": [{"input": "", "output": "hi"}]},
    )  # fmt: skip
    assert found == [
        [("u", "Add.\n\n1 1"), ("a", "2")],
        [("u", "Add.\n\n2 2"), ("a", "4")],
        [("u", "Say hi."), ("a", "hi")],
    ]
    assert groups == ["self_instruct:1", "self_instruct:1", "self_instruct:2"]
    assert (account["rows"], account["conversations"]) == (2, 3)


def test_alpaca_is_one_json_list_and_has_empty_answers(tmp_path):
    rows = [
        {"instruction": "Name a cheese.", "input": "", "output": "Brie"},
        {"instruction": "Translate.", "input": "Käse", "output": "cheese"},
        {"instruction": "Nothing", "input": "", "output": " "},
        {"instruction": "TRANSLATE. ", "input": "Brot", "output": "bread"},
    ]
    (tmp_path / "alpaca_data.json").write_text(json.dumps(rows, indent=2))
    table, account = source_of(
        tmp_path, {"format": "alpaca", "files": "alpaca_data.json", "name": "alpaca_52k"}
    ).read()
    assert said(table) == [
        [("u", "Name a cheese."), ("a", "Brie")],
        [("u", "Translate.\n\nKäse"), ("a", "cheese")],
        [("u", "TRANSLATE. \n\nBrot"), ("a", "bread")],
    ]
    assert table["example_id"].to_list() == ["alpaca_52k:1", "alpaca_52k:2", "alpaca_52k:4"]
    assert table["group"].to_list() == ["alpaca_52k:1", "alpaca_52k:2", "alpaca_52k:2"]
    assert account["dropped"] == {"empty_answer": 1}
    assert (account["rows_in"], account["rows_out"], account["groups"]) == (4, 3, 2)


def test_unnatural_instructions_with_reformulations(tmp_path):
    instance = {"input": "x", "instruction_with_input": "Do. x", "constraints": "None.",
                "output": "y"}  # fmt: skip
    other = {"instruction": "Make it.", "instruction_with_input": "Make it. x", "input": "x",
             "output": "z"}  # fmt: skip
    found, groups, _ = read(
        tmp_path,
        "unnatural_instructions",
        {"instruction": "Do.", "instances": [instance], "reformulations": [other]},
        {"instruction": "Else.", "instances": [instance]},
    )
    assert found == [
        [("u", "Do. x"), ("a", "y")], [("u", "Make it. x"), ("a", "z")],
        [("u", "Do. x"), ("a", "y")],
    ]  # fmt: skip
    # The third begins as the first does.
    assert set(groups) == {"unnatural_instructions:1"}


def test_longform(tmp_path):
    row = {"input": "Write.", "output": "Long.", "source": "Wikipedia", "subset": "corpora"}
    assert read(tmp_path, "longform", row)[0] == [[("u", "Write."), ("a", "Long.")]]


def test_oig(tmp_path):
    found, _, account = read(
        tmp_path,
        "oig",
        {"text": "\n<human>: A < b?\n<bot>: Yes.\nI think.", "metadata": {"source": "x"}},
        {"text": "Background: c\n<human>: d\n<bot>: e\n<human>: f\n<bot>: g"},
        {"text": "<human>: h"},
    )
    assert found == [
        [("u", "A < b?"), ("a", "Yes.\nI think.")],
        [("s", "Background: c"), ("u", "d"), ("a", "e"), ("u", "f"), ("a", "g")],
    ]
    assert account["dropped"] == {"no_answer": 1}


def test_hh_rlhf_is_what_was_chosen(tmp_path):
    begin = "\n\nHuman: a?\n\nAssistant: b: Human: c\n\nHuman: d\n\nAssistant:"
    found, groups, account = read(
        tmp_path,
        "hh_rlhf",
        {"chosen": f"{begin} good", "rejected": f"{begin} bad"},
        {"chosen": "\n\nHuman: A?\n\nAssistant: no", "rejected": "x"},
        {"chosen": "\n\nHuman: e\n\nAssistant:", "rejected": "x"},
    )
    assert found[0] == [("u", "a?"), ("a", "b: Human: c"), ("u", "d"), ("a", "good")]
    # Answers of one question are one group.
    assert groups == ["hh_rlhf:1", "hh_rlhf:1"]
    assert account["dropped"] == {"empty_answer": 1}


def test_guanacos_last_human_turn_is_dropped(tmp_path):
    text = "### Human: a### Assistant: b### Human: c"
    found, _, account = read(tmp_path, "guanaco", {"text": text}, {"text": text[:28]})
    assert found == [[("u", "a"), ("a", "b")]] * 2
    assert account["turns_dropped"] == 1
    assert account["kept"] == 2


def node(name, role, text, *replies, **more):
    return {"message_id": name, "role": role, "text": text, "replies": list(replies), **more}


TREE = node(
    "p", "prompter", "Q",
    node("a2", "assistant", "second", rank=1),
    node(
        "a1", "assistant", "best",
        node("u1", "prompter", "unranked, first", node("b1", "assistant", "end")),
        node("u2", "prompter", "unranked, second"),
        rank=0,
    ),
    node("a0", "assistant", "spam", rank=-1, deleted=True),
    node("a3", "assistant", "refused", rank=-2, review_result=False),
    node("a4", "assistant", "no rank"),
)  # fmt: skip
BEST = [("u", "Q"), ("a", "best"), ("u", "unranked, first"), ("a", "end")]


def flat(root, tree, parent=None):
    own = {k: v for k, v in root.items() if k != "replies"}
    below = [row for reply in root["replies"] for row in flat(reply, tree, root["message_id"])]
    more = {"parent_id": parent, "message_tree_id": tree, "tree_state": "ready_for_export"}
    return [{**own, **more}, *below]


def test_oasst1_follows_the_best_ranked_replies_of_each_tree(tmp_path):
    tree = {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": TREE}
    found, _, account = read(
        tmp_path,
        "oasst1",
        tree,
        {**tree, "tree_state": "halted_by_moderator"},
        {**tree, "prompt": node("x", "prompter", "nobody answers")},
        {**tree, "prompt": node("x", "prompter", "spam", deleted=True)},
        {**tree, "prompt": node("x", "prompter", "again", node("y", "assistant", "yes", rank=0))},
    )
    assert found == [BEST, [("u", "again"), ("a", "yes")]]
    assert account["dropped"] == {
        "deleted_or_refused": 1, "no_answer": 1, "tree_not_ready": 1,
    }  # fmt: skip


def test_oasst1_as_messages_is_the_same_in_any_order(tmp_path):
    rows = [*flat(TREE, "t"), *flat(node("x", "prompter", "w", node("y", "assistant", "r")), "o")]
    found, groups, account = read(tmp_path, "oasst1", *rows)
    assert found == [BEST, [("u", "w"), ("a", "r")]]
    assert groups == ["oasst1:1", f"oasst1:{len(rows) - 1}"]
    assert account["conversations"] == 2
    # Of unranked replies the first of the file is taken, so these two stay in order.
    moved = [row for row in rows if row["parent_id"]] + [r for r in rows if not r["parent_id"]]
    assert read(tmp_path, "oasst1", *moved)[0] == found


def test_a_tree_is_one_group_whatever_its_words(tmp_path):
    lines(tmp_path / "a.jsonl", {"message_tree_id": "t", "prompt": TREE})
    other = node("x", "prompter", "w", node("y", "assistant", "r"))
    lines(tmp_path / "b.jsonl", {"message_tree_id": "t", "prompt": other})
    table, _ = source_of(tmp_path, {"format": "oasst1", "files": ["a.jsonl", "b.jsonl"]}).read()
    assert table["example_id"].to_list() == ["oasst1:a:1", "oasst1:b:1"]
    assert table["group"].to_list() == ["oasst1:a:1"] * 2


def test_ones_own_messages(tmp_path):
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"}, {"role": "user", "content": "bye"}]  # fmt: skip
    other = [{"role": "user", "content": "v"}, {"role": "assistant", "content": "b"}]
    found, groups, account = read(
        tmp_path, "messages", {"messages": talk, "group": "g"}, {"messages": other, "group": "g"}
    )
    assert found == [[("s", "s"), ("u", "u"), ("a", "a")], [("u", "v"), ("a", "b")]]
    assert groups == ["messages:1", "messages:1"]
    assert account["turns_dropped"] == 1


def test_sets_become_one_table_and_what_begins_alike_one_group(tmp_path):
    lines(tmp_path / "q.jsonl", {"question": "Say  HI.", "answer": "hi"})
    lines(
        tmp_path / "seeds.jsonl",
        {"instruction": "Add.", "instances": [{"input": "1", "output": "1"}]},
        {"instruction": "Say hi.", "instances": [{"input": "now", "output": "hello"}]},
    )
    talk = [{"role": "user", "content": "ADD.\n\n1"}, {"role": "assistant", "content": "one"}]
    lines(tmp_path / "own.jsonl", {"messages": talk})
    table, account = source_of(
        tmp_path,
        {"format": "gsm8k", "files": "q.jsonl"},
        {"format": "self_instruct", "files": "seeds.jsonl"},
        {"format": "messages", "files": {"test": "own.jsonl"}, "name": "mine"},
    ).read()
    assert table.columns == ["example_id", "group", "split", "balance", "messages", "source"]
    assert table["source"].to_list() == ["gsm8k", "self_instruct", "self_instruct", "mine"]
    assert table["balance"].to_list() == [["gsm8k"], ["self_instruct"], ["self_instruct"], ["mine"]]
    assert table["split"].to_list() == [None, None, None, "test"]
    # Say hi: alike but for case and space. Add: the whole question of one is that of another.
    assert table["group"].to_list() == [
        "gsm8k:1", "self_instruct:1", "gsm8k:1", "self_instruct:1",
    ]  # fmt: skip
    assert [row["kept"] for row in account["sources"]] == [1, 2, 1]


def test_a_set_may_be_limited_and_is_drawn_alike_each_time(tmp_path):
    rows = [{"question": f"{n}?", "answer": "a"} for n in range(50)]
    found, groups, account = read(tmp_path, "gsm8k", *rows, limit=7)
    assert len(found) == 7
    assert account["dropped"] == {"limit": 43}
    assert read(tmp_path, "gsm8k", *rows, limit=7)[1] == groups
    assert groups != [f"gsm8k:{n}" for n in range(1, 8)]


def test_gzip_parquet_and_a_byte_order_mark_are_read(tmp_path):
    rows = [{"question": f"{n}?\u2028", "answer": "é"} for n in range(3)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n\n")
    pl.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    for name in ("a.jsonl.gz", "b.jsonl", "c.parquet"):
        table, _ = source_of(tmp_path, {"format": "gsm8k", "files": name}).read()
        assert said(table) == [[("u", f"{n}?\u2028"), ("a", "é")] for n in range(3)]


@pytest.mark.parametrize(
    ("form", "row", "told"),
    [
        ("gsm8k", {"question": "q"}, "no key 'answer', found question; is it another format?"),
        ("gsm8k", {"question": "q", "answer": 2}, "'answer' is a number, expected a text"),
        ("gsm8k", {"question": "q", "answer": " "}, "found an empty reference"),
        ("alpaca", {"instruction": None, "output": "x"}, "'instruction' is nothing"),
        ("self_instruct", {"instruction": "a", "instances": {}}, "'instances' is an object"),
        ("oig", {"text": "hello"}, "no message is marked"),
        ("hh_rlhf", {"chosen": ["a"]}, "'chosen' is a list"),
        ("messages", {"messages": []}, "a conversation without an assistant turn"),
        ("messages", {"messages": [{"role": "human", "content": "a"}]}, "without an assistant"),
        ("messages", {"messages": [{"role": "assistant", "content": "a"}]}, "begins with the"),
        ("messages", {"messages": [{"role": "user"}]}, "no key 'content'"),
        ("oasst1", {"prompt": "p"}, "'prompt' is no message"),
        ("oasst1", {"prompt": node("a", "human", "t")}, "'role' is none of prompter, assistant"),
        ("oasst1", {"message_id": "a", "parent_id": "b"}, "'parent_id' names no message"),
        ("oasst1", {"message_id": "1", "role": "assistant", "text": "t"}, "of an earlier row"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path, form, row, told):
    good = {
        "question": "q", "answer": "a", "instruction": "i", "output": "o", "text": "<human>: a",
        "chosen": "\n\nHuman: a\n\nAssistant: b", "message_id": "1", "role": "prompter",
        "instances": [], "messages": [{"role": "user", "content": "a"},
                                      {"role": "assistant", "content": "b"}],
    }  # fmt: skip
    found = refused(tmp_path, form, good, row)
    assert found.startswith("data: rows.jsonl row 2: ")
    assert told in found


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"question": "q", "answer": "a"}\n{"question": "\xff"}', "not UTF-8, found byte 0xff at "
         "place 47 in line 2"),
        (b'{"question": "q", "answer": "a"}\n{"question"', "is not JSON in line 2"),
        (b'[{"question": "q"},\n 1 2]', "is not JSON in line 2"),
        (b'["q"]', "row 1: found a text, expected an object"),
        (b"\n", "is empty, expected rows"),
        (b"\x1f\x8b\x08", "is no whole gzip file"),
        (b"PAR1", "is no whole Parquet file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, data, told):
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(InputError) as caught:
        source_of(tmp_path, {"format": "gsm8k", "files": "rows.jsonl"}).read()
    assert "rows.jsonl" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_of_which_nothing_is_left_is_one_line(tmp_path):
    row = {"instruction": "a", "input": "", "output": ""}
    assert "alpaca: no conversation is left of 1 (1 empty_answer)" in refused(
        tmp_path, "alpaca", row
    )


def test_missing_files_and_roots_are_told_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match=r"data\.sets: no file .*none\.jsonl"):
        source_of(tmp_path, {"format": "gsm8k", "files": "none.jsonl"}).check()
    settings = InstructionsData.model_validate(
        {"source": "instructions", "sets": [{"format": "gsm8k", "files": "a.jsonl"}]}
    )
    with pytest.raises(InputError, match=r"data_root: not set, but study mine reads a\.jsonl"):
        Instructions(settings, Site(), "results/mine").check()


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="found 'gsm8k' 2 times"):
        source_of(
            ".", {"format": "gsm8k", "files": "a.jsonl"}, {"format": "gsm8k", "files": "b.jsonl"}
        )


def test_public_files_as_they_lie(shared_data):
    """Counts by wc -l; the first answers by eye."""
    table, account = source_of(
        shared_data / "instructions",
        {"format": "gsm8k", "files": "gsm8k-train.jsonl"},
        {"format": "self_instruct", "files": "self-instruct-seed-tasks.jsonl"},
    ).read()
    assert [row["kept"] for row in account["sources"]] == [7473, 175]
    assert account["dropped"] == {}
    first = {row["source"]: row["messages"] for row in table[::-1].iter_rows(named=True)}
    assert first["gsm8k"][1]["content"].endswith("\n#### 72")
    assert first["self_instruct"][0]["content"].startswith("Is there anything I can eat")
