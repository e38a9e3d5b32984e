"""Questions: each model answers each one as if it were alone, and how it stopped is told."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from peft_ablation.bases.tokenizer import train_tokenizer
from peft_ablation.errors import InputError
from peft_ablation.methods import method_class
from peft_ablation.scoring.questions import write_answers
from peft_ablation.tasks import task_class
from peft_ablation.tasks.text_generation.chat_templates import shipped_templates
from peft_ablation.tasks.text_generation.examples import load_tokenizer

QUESTIONS = ("what is rain", "tell me of the sea, please")
LIMIT = 5
CHAT = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
FULL = method_class("full").Settings.model_validate({"method": "full", "learning_rate": 1e-3})


class Models:
    """A base, a run that writes otherwise, and a model that ends at once."""

    def __init__(self, folder: Path) -> None:
        self.base, self.run, self.silent = (folder / name for name in ("base", "run", "silent"))
        self.train = folder / "train.parquet"
        rows = {"example_id": ["a"], "group": ["a"], "prompt": ["rain"], "reference": ["water"]}
        pl.DataFrame(rows).write_parquet(self.train)
        train_tokenizer([*QUESTIONS, "water falls from clouds"], 300, self.base, CHAT)
        self.tokenizer = load_tokenizer(self.base)
        torch.manual_seed(5)
        model = GPT2LMHeadModel(
            GPT2Config(
                n_embd=16, n_layer=2, n_head=2, n_positions=96, vocab_size=len(self.tokenizer),
                bos_token_id=0, eos_token_id=3,
            )
        )  # fmt: skip
        self.tokenizer.save_pretrained(self.silent)
        with torch.no_grad():
            for folder, factor in ((self.base, 3.0), (self.run, -1.0)):
                for parameter in model.parameters():
                    parameter.mul_(factor)
                model.save_pretrained(folder)
            # Whatever it reads, the last hidden state is that which is likest to the end token.
            model.transformer.ln_f.weight.zero_()
            model.transformer.wte.weight[3] *= 10
            model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[3])
            model.save_pretrained(self.silent)

    def answers(self, output: Path, **changed: Any) -> pl.DataFrame:
        settings = {"name": "text_generation", "max_tokens": 90, "max_new_tokens": LIMIT}
        settings |= {} if "chat_template" in changed else {"prompt": "Q: {prompt} A:"}
        task = task_class("text_generation").Settings.model_validate(settings | changed)
        write_answers(
            task=task.model_dump(mode="json"), questions=QUESTIONS,
            arms={"fft": FULL.model_dump(mode="json")}, runs=[("fft", 4)], models=[self.run],
            bases=[self.base], untouched=[("base", None), ("instruct", None)],
            folders=[self.base, self.silent], train=self.train, precision="fp32", threads=1,
            output=output,
        )  # fmt: skip
        return pl.read_csv(output)

    def by_transformers(self, folder: Path, question: str, template: str | None = None) -> str:
        """What `generate` makes of the prompt alone, or of the message that a template writes."""
        if template is None:
            ids = self.tokenizer(f"Q: {question} A:")["input_ids"]
            ids = ids[:-1] if ids[-1] == 3 else ids
        else:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], chat_template=template,
                add_generation_prompt=True, tokenize=False,
            )  # fmt: skip
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            assert text.startswith(CHAT[0])
            assert text.endswith("assistant<|end_header_id|>\n\n")
        ids = torch.tensor([ids])
        model = GPT2LMHeadModel.from_pretrained(folder).eval()
        end = self.tokenizer.convert_tokens_to_ids("<|eot_id|>") if template else 3
        found = model.generate(
            ids, max_new_tokens=LIMIT, do_sample=False, pad_token_id=3, eos_token_id=end
        )
        text = self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        return str(text).strip()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("asked"))


def test_each_model_answers_as_generate_does_with_the_question_alone(
    models: Models, tmp_path: Path
) -> None:
    found = models.answers(tmp_path / "answers.csv")
    assert found.select("question", "arm", "seed").rows() == [
        (1, "base", None), (2, "base", None), (1, "instruct", None), (2, "instruct", None),
        (1, "fft", 4), (2, "fft", 4),
    ]  # fmt: skip
    assert found["text"].to_list() == [*QUESTIONS] * 3
    folders = {"base": models.base, "fft": models.run}
    for row in found.filter(pl.col("arm") != "instruct").to_dicts():
        expected = models.by_transformers(folders[row["arm"]], row["text"])
        assert (row["answer"] or "") == expected
    texts = found["answer"].to_list()
    assert texts[0] != texts[4]  # the run is not the base


def test_where_conversations_are_learnt_a_question_is_the_users_message(
    models: Models, tmp_path: Path
) -> None:
    found = models.answers(tmp_path / "answers.csv", chat_template="llama-3")
    template = shipped_templates()["llama-3"]
    for row in found.filter(pl.col("arm") == "base").to_dicts():
        expected = models.by_transformers(models.base, row["text"], template)
        assert (row["answer"] or "") == expected
    plain = models.answers(tmp_path / "plain.csv")
    assert plain["answer"][0] != found["answer"][0]


@pytest.mark.parametrize("limit", [1, LIMIT])
def test_it_is_told_whether_an_answer_ended_or_was_cut_off(
    models: Models, limit: int, tmp_path: Path
) -> None:
    """An end token at the very limit is an end."""
    found = models.answers(tmp_path / "answers.csv", max_new_tokens=limit)
    told = set(found.select("arm", "tokens", "stopped").rows())
    assert told == {("base", limit, "limit"), ("fft", limit, "limit"), ("instruct", 0, "end")}


def test_a_sampled_answer_does_not_hang_on_which_others_are_asked(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = models.answers(tmp_path / "both.csv", sample=True, sampling_seed=3)
    monkeypatch.setattr(f"{__name__}.QUESTIONS", QUESTIONS[1:])
    alone = models.answers(tmp_path / "alone.csv", sample=True, sampling_seed=3)
    second = both.filter(pl.col("question") == 2)
    assert alone["answer"].to_list() == second["answer"].to_list()
    other = models.answers(tmp_path / "other.csv", sample=True, sampling_seed=4)
    assert other["answer"].to_list() != alone["answer"].to_list()


def test_a_question_that_leaves_no_room_is_one_line(models: Models, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^questions: one of \d+ tokens .* a context of 96;"):
        models.answers(tmp_path / "answers.csv", max_new_tokens=90)
