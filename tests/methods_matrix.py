"""Every method on every architecture, trained, killed, resumed, saved, loaded and merged.

`PYTHONPATH=src python tests/methods_matrix.py docs/methods.md` runs all of it on tiny models with
random weights, on one thread, and writes the tables; `--only lora ViT` runs the rows and columns of
these names and prints. What a cell says was seen, or is the one line that refused it.
"""

import argparse
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from peft_ablation.artifacts import write_text
from peft_ablation.bases.quantisation import linear_4bit
from peft_ablation.errors import InputError
from peft_ablation.methods import Method, method_class
from peft_ablation.methods._peft_types import peft_types
from peft_ablation.methods.parameters import (
    count_parameters,
    load_trainable_state,
    trainable_state,
)
from peft_ablation.training.optimizers import make_optimizer

STEPS = 10
VOCABULARY, LABELS, ROWS, LENGTH, SIDE = 64, 3, 8, 12, 32

Batch = dict[str, Tensor]


# -- tiny bases ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiny:
    """A tiny model with random weights, what it is trained on, and which targets are adapted."""

    name: str
    make: Callable[[], nn.Module]
    kind: str
    """`text`, `image`, `sentence` or `caption`."""
    heads: tuple[str, ...] = ()
    targets: str = "attention"

    def write(self, folder: Path) -> None:
        """Write the model as a base folder; the same bytes each time."""
        torch.manual_seed(1)
        model = self.make()
        for module in model.modules():  # BatchNorm that normalises nothing would hide its traps
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        model.save_pretrained(folder)

    def batch(self, index: int) -> Batch:
        """Return batch `index` of the training data; four of them make an epoch."""
        draw = torch.Generator().manual_seed(100 + index % 4)
        labels = torch.randint(0, LABELS, (ROWS,), generator=draw)
        start = torch.randint(3, VOCABULARY, (ROWS, 1), generator=draw)
        # A text counts up by 1, 2 or 3, as its label says: there is something to learn.
        ids = 3 + (start + (1 + labels[:, None]) * torch.arange(LENGTH)) % (VOCABULARY - 3)
        pixels = torch.randn(ROWS, 3, SIDE, SIDE, generator=draw) / 4 + labels[:, None, None, None]
        given: dict[str, Batch] = {
            "text": {"input_ids": ids},
            "sentence": {"input_ids": ids, "labels": labels},
            "image": {"pixel_values": pixels, "labels": labels},
            "caption": {"input_ids": ids, "pixel_values": pixels},
        }
        return given[self.kind]

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of a batch, of text positions alone."""
        given = {key: value for key, value in batch.items() if key != "labels"}
        logits: Tensor = model(**given).logits
        # Images, and the virtual tokens of a prompt that PEFT alone has loaded, come first.
        return logits[:, -LENGTH:] if logits.dim() == 3 else logits

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, from logits, as the tasks compute it."""
        logits = self.logits(model, batch)
        if "labels" in batch:
            return functional.cross_entropy(logits, batch["labels"])
        return functional.cross_entropy(
            logits[:, :-1].reshape(-1, VOCABULARY), batch["input_ids"][:, 1:].reshape(-1)
        )

    def load(self, folder: str | Path) -> nn.Module:
        """Return the model of a folder, as a task loads it."""
        return self.model_class.from_pretrained(folder, local_files_only=True).eval()

    @property
    def model_class(self) -> Any:
        import transformers

        return getattr(transformers, self.name)


def _llama(**changed: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    given = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**given, **changed}))


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1,
            eos_token_id=2,
        )
    )  # fmt: skip


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            image_size=SIDE, patch_size=16, num_labels=LABELS,
        )
    )  # fmt: skip


def _resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic",
            num_labels=LABELS,
        )
    )  # fmt: skip


def _roberta() -> nn.Module:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    return RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=66, num_labels=LABELS,
        )
    )  # fmt: skip


def _git() -> nn.Module:
    from transformers import GitConfig, GitForCausalLM

    return GitForCausalLM(
        GitConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
            pad_token_id=0,
            vision_config={
                "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                "intermediate_size": 64, "image_size": SIDE, "patch_size": 16,
            },
        )
    )  # fmt: skip


TINY = {
    "Llama": Tiny("LlamaForCausalLM", _llama, "text"),
    "GPT-2": Tiny("GPT2LMHeadModel", _gpt2, "text"),
    "ViT": Tiny("ViTForImageClassification", _vit, "image", ("classifier",)),
    "ResNet": Tiny("ResNetForImageClassification", _resnet, "image", ("classifier",), "all"),
    "RoBERTa": Tiny("RobertaForSequenceClassification", _roberta, "sentence", ("classifier",)),
    "GIT": Tiny("GitForCausalLM", _git, "caption"),
}


# -- a run, as the engine carries it out ---------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A folder with all that a killed run leaves behind."""

    folder: Path

    def write(self, method: Method, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.folder.mkdir(parents=True)
        save_file(trainable_state(model), self.folder / "weights.safetensors")
        save_file(buffers(model), self.folder / "buffers.safetensors")
        save_file(method.state(model), self.folder / "method.safetensors")
        torch.save(optimizer.state_dict(), self.folder / "optimizer.pt")

    def state(self) -> dict[str, Tensor]:
        return load_file(self.folder / "method.safetensors")

    def read_into(self, model: nn.Module) -> None:
        load_trainable_state(model, load_file(self.folder / "weights.safetensors"))
        own = dict(model.named_buffers())
        for name, value in load_file(self.folder / "buffers.safetensors").items():
            own[name].copy_(value)

    def optimizer(self) -> dict[str, Any]:
        return torch.load(self.folder / "optimizer.pt", weights_only=True)


def buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the persistent buffers."""
    kept = model.state_dict().keys()
    return {n: b.detach().clone().contiguous() for n, b in model.named_buffers() if n in kept}


@dataclass
class Trained:
    """A run that has ended, or was stopped."""

    method: Method
    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float]


def train(
    tiny: Tiny,
    base: Path,
    arm: Mapping[str, Any],
    *,
    stop: int = STEPS,
    resume: Checkpoint | None = None,
    seed: int = 3,
    steps: int = STEPS,
    optimizer_name: str = "adamw",
) -> Trained:
    """Train up to step `stop` of `steps`, from the start or from a checkpoint."""
    method = bound(arm)
    model = method.apply(
        tiny.load(base),
        seed=seed,
        heads=tiny.heads,
        steps=steps,
        batches=lambda: no_data() if resume else forwards(tiny),
        state=resume.state() if resume else None,
    )
    first = 0
    if resume is not None:
        resume.read_into(model)
    optimizer = make_optimizer(optimizer_name, method.optimizer_groups(model, 0.01), 1.0)
    if resume is not None:
        optimizer.load_state_dict(resume.optimizer())
        first = int(next(iter(optimizer.state.values()))["step"])
    losses = []
    for step in range(first, stop):
        torch.manual_seed(1000 + step)  # dropout
        method.train_mode(model)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * method.arm["learning_rate"]
        loss = tiny.loss(model, tiny.batch(step))
        losses.append(float(loss.detach()))
        extra = method.extra_loss(model)
        (loss if extra is None else loss + extra).backward()
        optimizer.step()
        method.after_step(model, step)
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    return Trained(method, model, optimizer, losses)


def bound(arm: Mapping[str, Any]) -> Method:
    """Return the method of an arm's keys, defaults filled in as a study does."""
    given = {"learning_rate": 1e-2, **arm}
    if given["method"] == "none":
        given.pop("learning_rate")
    own = method_class(given["method"])
    return own(own.Settings.model_validate(given).model_dump(mode="json"))


def forwards(tiny: Tiny) -> Iterator[Callable[[nn.Module], Tensor]]:
    """Yield functions that run a model on a training batch, as `Method.apply` takes them."""
    for index in range(4):
        batch = tiny.batch(index)
        yield lambda model, batch=batch: tiny.loss(model, batch)


def no_data() -> Iterator[Callable[[nn.Module], Tensor]]:
    """Fail: a resumed run must not look at data again."""
    raise AssertionError("a resumed run looked at training data")
    yield


@torch.no_grad()
def outputs(tiny: Tiny, model: nn.Module) -> Tensor:
    """Return the logits of the first two batches in evaluation mode."""
    model.eval()
    return torch.cat([tiny.logits(model, tiny.batch(index)) for index in range(2)])


def mean_loss(tiny: Tiny, model: nn.Module) -> float:
    """Return the loss of the training data in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return sum(float(tiny.loss(model, tiny.batch(index))) for index in range(4)) / 4


# -- what is checked in a cell -------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A method with its settings; `targets` by architecture where it takes them."""

    arm: Mapping[str, Any]
    source: str = ""
    targets: Callable[[Tiny], str] | None = None

    def arm_for(self, tiny: Tiny) -> dict[str, Any]:
        own = dict(self.arm)
        return own if self.targets is None else {**own, "targets": self.targets(tiny)}


def _lora(source: str, **settings: Any) -> Row:
    return Row({"method": "lora", **settings}, source, lambda tiny: tiny.targets)


def method_rows() -> dict[str, Row]:
    """Return the shipped methods by name, with what they are."""
    return {
        "full": Row({"method": "full", "learning_rate": 1e-3}, "Howard & Ruder 2018"),
        "lora": _lora("Hu et al. 2021"),
        "lora, rslora": _lora("Kalajdzievski 2023", rslora=True),
        "lora, dora": _lora("Liu et al. 2024", dora=True),
        "lora, loraplus 16": _lora("Hayou et al. 2024", loraplus=16, learning_rate=1e-3),
        "lora, init gaussian": _lora("Hu et al. 2021", init="gaussian"),
        "lora, init orthogonal": _lora("PEFT", init="orthogonal"),
        "lora, init pissa": _lora("Meng et al. 2024", init="pissa"),
        "lora, init pissa_niter_4": _lora("Meng et al. 2024", init="pissa_niter_4"),
        "lora, init olora": _lora("Büyükakyüz 2024", init="olora"),
        "lora, init eva": _lora("Paischer et al. 2024", init="eva", r=4),
        "lora, train_norms": _lora("Hu et al. 2021", train_norms=True),
        "adalora": Row({"method": "adalora"}, "Zhang et al. 2023", lambda tiny: tiny.targets),
        "ia3": Row({"method": "ia3"}, "Liu et al. 2022", lambda tiny: tiny.targets),
        "bitfit": Row({"method": "bitfit"}, "Ben Zaken et al. 2022"),
        "last_layers": Row({"method": "last_layers", "n": 1}, "Lee et al. 2019"),
        "head_only": Row({"method": "head_only"}, "Alain & Bengio 2016"),
        "prompt": Row({"method": "prompt", "tokens": 4}, "Lester et al. 2021"),
        "prefix": Row({"method": "prefix", "tokens": 4}, "Li & Liang 2021"),
        "qlora": Row({"method": "qlora"}, "Dettmers et al. 2023", lambda tiny: tiny.targets),
        "none": Row({"method": "none"}, ""),
    }


_NEEDED: Mapping[str, Mapping[str, Any]] = {
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "C3A": {"block_size": 8},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "CPT": {},
    "FOURIERFT": {"n_frequency": 100},
    "IA3": {"feedforward_modules": []},
    "MISS": {"r": 8},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PSOFT": {"r": 8},
    "P_TUNING": {"num_virtual_tokens": 4},
    "ROAD": {"group_size": 8},
    "SHADOW": {"auxiliary_loss_weight": 0},
    "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"token_indices": [5, 6, 7]},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "WAVEFT": {"n_frequency": 100},
}
"""Settings of PEFT's types without a default, or whose default is too large for tiny models."""
_OTHER_TARGETS: Mapping[str, str | None] = {
    "ADAPTION_PROMPT": None,
    "LN_TUNING": r"regex:.*(norm|LayerNorm|ln_\w+|normalization|layrnorm|layernorm(_\w+)?)",
    "SHADOW": None,
    "TRAINABLE_TOKENS": r"regex:.*(embed_tokens|wte|word_embeddings)",
}
"""Targets of types that do not go to linear layers; None: PEFT's own."""


def peft_rows() -> dict[str, Row]:
    """Return PEFT's types, each with as few settings as tiny models let it have."""
    rows = {}
    for name, own in peft_types().items():
        arm = {"method": "peft", "type": name, "settings": dict(_NEEDED.get(name, {}))}
        fixed = _OTHER_TARGETS.get(name, "")
        targets: Callable[[Tiny], str] | None = None
        if "target_modules" in own.settings and fixed is not None:
            targets = (lambda tiny, fixed=fixed: fixed) if fixed else lambda tiny: tiny.targets
        rows[name] = Row(arm, targets=targets)
    return rows


@dataclass(frozen=True)
class Cell:
    """What was seen of a method on an architecture."""

    refused: str | None = None
    """The one line that refuses it."""
    failed: str | None = None
    """What did not hold."""
    merged: float | None = None
    """Largest difference of logits after merging; None: not merged."""
    reloaded: float = 0.0
    """Largest difference of logits after plain loading."""
    holds: tuple[str, ...] = ()
    """What its checkpoint holds besides trainable parameters and optimizer."""
    trainable: int = 0
    total: int = 0
    loss: tuple[float, float] = (0.0, 0.0)
    own_forward: bool = True
    """Whether a forward of the base by itself gives the same logits."""


def cell(tiny: Tiny, arm: Mapping[str, Any], work: Path, optimizer: str = "adamw") -> Cell:
    """Run one method on one architecture through its whole life."""
    base = work / "base"
    if not base.exists():
        tiny.write(base)
    folder = Path(tempfile.mkdtemp(dir=work))
    try:
        return _life(tiny, arm, base, folder, optimizer)
    except InputError as error:
        return Cell(refused=str(error))
    except ValidationError as error:
        return Cell(refused=error.errors()[0]["msg"].removeprefix("Value error, "))
    except Exception as error:
        traceback.print_exc()
        return Cell(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def _life(tiny: Tiny, arm: Mapping[str, Any], base: Path, folder: Path, optimizer: str) -> Cell:
    method = bound(arm)
    if not method.trains:
        same = outputs(tiny, method.load(tiny.load, base, folder))
        equal = torch.equal(same, outputs(tiny, tiny.load(base)))
        return Cell(failed=None if equal else "load does not give the base")
    fresh = train(tiny, base, arm, stop=0)
    begin = mean_loss(tiny, fresh.model)
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    whole = train(tiny, base, arm, optimizer_name=optimizer)
    problems = list(_unexpected(whole, before))
    end = mean_loss(tiny, whole.model)
    if not end < begin:
        problems.append(f"loss rises from {begin:.4f} to {end:.4f}")
    kept: set[str] = set()
    for stop in (STEPS // 2, STEPS - 2):
        checkpoint = Checkpoint(folder / f"checkpoint-{stop}")
        stopped = train(tiny, base, arm, stop=stop, optimizer_name=optimizer)
        # A save in between, as the best epoch's: training must go on as if there had been none.
        (folder / f"best-{stop}").mkdir()
        stopped.method.save(stopped.model, folder / f"best-{stop}")
        checkpoint.write(stopped.method, stopped.model, stopped.optimizer)
        kept |= {key.partition(".")[0] for key in checkpoint.state()}
        torch.manual_seed(99)
        resumed = train(tiny, base, arm, resume=checkpoint, optimizer_name=optimizer)
        problems += _differences(whole, resumed, stop)
    model = folder / "model"
    model.mkdir()
    whole.method.save(whole.model, model)
    trained = outputs(tiny, whole.model)
    torch.manual_seed(98)
    reloaded = plainly(tiny, whole.method, base, model)
    off = float((outputs(tiny, reloaded) - trained).abs().max())
    if off > 1e-5:
        problems.append(f"loaded plainly, logits are off by {off:.2g}")
    torch.manual_seed(97)
    loaded = whole.method.load(tiny.load, base, model)
    merged = None
    apart = float((outputs(tiny, loaded) - trained).abs().max())
    if hasattr(loaded, "peft_config") or not hasattr(whole.model, "peft_config"):
        if apart > 1e-5:
            problems.append(f"loaded, logits are off by {apart:.2g}")
    else:
        merged = apart
        if apart > 1e-4:
            problems.append(f"merged, logits are off by {apart:.2g}")
    count = count_parameters(whole.model)
    return Cell(
        failed="; ".join(problems) or None,
        merged=merged,
        reloaded=off,
        holds=(*sorted(kept), *(["buffers"] if buffers(whole.model) else [])),
        trainable=count.trainable,
        total=count.total,
        loss=(begin, end),
        own_forward=_own_forward(tiny, whole.model, trained),
    )


def plainly(tiny: Tiny, method: Method, base: Path, folder: Path) -> nn.Module:
    """Return what the line of the model card loads, with transformers and PEFT alone."""
    line = method.loading(tiny.name)
    known: dict[str, Any] = {"base": base, "folder": folder, "load_file": load_file}
    import peft
    from transformers import BitsAndBytesConfig

    known |= {"PeftModel": peft.PeftModel, tiny.name: tiny.model_class, "torch": torch}
    known |= {"BitsAndBytesConfig": BitsAndBytesConfig}
    if line.startswith("model = "):
        exec(line, known)
        return known["model"]
    model: nn.Module = eval(line, known)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # The library's own is in bf16 on some CPUs, and wrong for tiny layers.
            module.__class__ = linear_4bit(bitsandbytes)
    return model


def _unexpected(run: Trained, before: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what moved and should not have, and what should have moved and did not."""
    learnt = {name for name, p in run.model.named_parameters() if p.requires_grad}
    after = run.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    names = {id(t): name for name, t in run.model.named_parameters()}
    tied = {
        name
        for name, p in run.model.named_parameters(remove_duplicate=False)
        if names.get(id(p)) in learnt
    }
    stray = moved - tied
    if run.method.freezes_base and stray:
        yield f"{len(stray)} frozen tensors moved, first {min(stray)}"
    if not moved & learnt:
        yield "nothing moved"


def _differences(whole: Trained, resumed: Trained, stop: int) -> list[str]:
    """Name what differs between a run and one that was stopped and resumed."""
    told = []
    for what, read in (
        ("parameters", lambda run: trainable_state(run.model)),
        ("buffers", lambda run: buffers(run.model)),
        ("state", lambda run: run.method.state(run.model)),
        ("optimizer", lambda run: _moments(run.optimizer)),
    ):
        one, other = read(whole), read(resumed)
        if one.keys() != other.keys():
            told.append(f"resumed at {stop}, other {what}")
        elif odd := [name for name in one if not torch.equal(one[name], other[name])]:
            told.append(f"resumed at {stop}, {len(odd)} {what} differ, first {odd[0]}")
    return told


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for name, value in _flat(entry)
    }


def _flat(entry: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state; bitsandbytes keeps those of 8 bits one level down."""
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield name, torch.as_tensor(value)


@torch.no_grad()
def _own_forward(tiny: Tiny, model: Any, trained: Tensor) -> bool:
    if not hasattr(model, "get_base_model"):
        return True
    return torch.equal(outputs(tiny, model.get_base_model()), trained)


# -- the tables ----------------------------------------------------------------------------------


def table(rows: Mapping[str, Row], work: Path, only: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of a table of methods by architecture, then what its marks mean."""
    notes: dict[str, None] = {}
    architectures = [name for name in TINY if not only or name in only or not {*TINY} & {*only}]
    sourced = any(row.source for row in rows.values())
    head = ["method", *architectures, "merged", "checkpoint also holds"] + ["source"] * sourced
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for name, row in rows.items():
        if only and name not in only and {*only} - {*TINY}:
            continue
        cells = {}
        for each in architectures:
            (work / each).mkdir(exist_ok=True)
            cells[each] = cell(TINY[each], row.arm_for(TINY[each]), work / each)
            print(f"{name}: {each}: {cells[each]}", file=sys.stderr)
        told = [_told(each, notes) for each in cells.values()]
        lived = [each for each in cells.values() if each.refused is None and each.failed is None]
        merged = [each.merged for each in lived if each.merged is not None]
        holds = sorted({what for each in lived for what in each.holds if what != "buffers"})
        merge = f"{max(merged):.0e}" if merged else "no"
        told += [merge, ", ".join(f"`{what}.`" for what in holds)] + [row.source] * sourced
        yield f"| {name} | {' | '.join(told)} |"
    yield ""
    for index, note in enumerate(notes, 1):
        yield f"{index}. {note}"


def _told(seen: Cell, notes: dict[str, None]) -> str:
    why = seen.refused or seen.failed
    if why is None:
        return f"{seen.trainable:,}"
    why = _without_sizes(why)
    notes.setdefault(why)
    return f"{'–' if seen.refused else '✗'} ({list(notes).index(why) + 1})"


def _without_sizes(line: str) -> str:
    """Return a refusal without what PEFT prints of a module, so that those of two are one."""
    return re.sub(r"(?<=\w)\((?:[^()]|\([^()]*\))*\)", "", line).replace("|", "\\|")


INTRODUCTION = """# Methods

Written by `tests/methods_matrix.py`, which ran every cell on tiny models with random weights (32
wide, two layers; one thread of a CPU; transformers {transformers}, PEFT {peft}, torch {torch}).
A number is the count of trained parameters, heads included, and says that all of this was seen:

- ten steps lower the loss, and nothing moves that is not to be trained;
- killed after five or eight steps and resumed from its checkpoint, a run ends with the same bytes:
  parameters, buffers, optimizer, and the method's own state;
- what `save` writes is loaded by transformers and PEFT alone, on the plain base, with the same
  outputs (to 1e-5; also for PiSSA and OLoRA, which are saved as plain LoRA of twice the rank);
- `load` gives the same outputs, merged into the base where the column `merged` has a number: the
  largest difference of logits.

`–` is refused with one line, `✗` was built and did not hold; the number behind leads to the reason
below. A checkpoint always holds the trainable parameters, all buffers (BatchNorm's statistics) and
the optimizer; the column says what the method adds. A frozen base keeps BatchNorm in evaluation
mode.

The studies `phantom_cxr_methods` and `mimic_cxr_methods` compare those that GIT can have with one
another, `phantom_cxr_target_modules` and `phantom_cxr_ranks` (and their `mimic_cxr_` twins) where
LoRA goes and how large its rank is.

## Shipped methods

Targets: the set `attention`, for ResNet `all` (convolutions). Definition, keys and paper stand in
each module of `peft_ablation/methods/`.

"""
BETWEEN = """
## Any type of PEFT (`method: peft`, `type: …`)

With default settings, but for those without a default or too large for tiny models:
{needed}.

A type that is not merged is kept beside the base when it predicts. Virtual tokens (CARTRIDGE,
PREFIX_TUNING, PROMPT_TUNING, P_TUNING, `prompt`, `prefix`) work in the forward of the wrapped model
alone: a task that calls the base's modules by itself cannot have them.

"""
AFTER = """
## QLoRA (`method: qlora`)

LoRA on a base whose frozen linear layers are kept in 4 bits (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314), by bitsandbytes: `pip install 'peft-ablation[quantisation]'`.

- **What is quantised**: every `nn.Linear` but the output head and the task's heads, whether it is a
  target or not, as transformers' `BitsAndBytesConfig` does it. Of 64 weights one scale is kept, and
  each weight is one of 16 numbers times it: `quant_type: nf4`, quantiles of a normal distribution,
  or `fp4`, floats. With `double_quant` the scales are 8-bit numbers themselves. GPT-2's `Conv1D`
  and convolutions are refused.
- **What stays**: embeddings, norms, biases and heads, in float32, as PEFT's
  `prepare_model_for_kbit_training` leaves them: tasks load bases in float32, and the adapters,
  which learn from small differences, get their inputs unrounded.
- **Bytes**: 0.5 + 1/64 + 4/16384 = 0.516 a weight, without double quantisation 0.5 + 4/64 = 0.5625;
  float32 takes 4. Of Llama-3.2-1B the linear layers take 502 or 547 MB, the embedding (float32)
  1,051 MB, LoRA of rank 64 on all linear layers 180 MB, its gradient as much and AdamW's states 361
  MB (`adamw_8bit`: 90 MB). It saves weights, not activations: for those there is
  `gradient_checkpointing` ([training.md](training.md#memory)).
- **What is trained**: the adapters, and with `train_norms` the norms. `dora`, `rslora`, `loraplus`
  and the `init`s `default` and `gaussian` are lora's; others would read or change the base's
  weights.
- **Saved** is a plain adapter of PEFT, and the run's card says the Python that loads it on the base
  in 4 bits. **It belongs to the rounded base**; on the base as it was it is another model.
  Predictions, and `composed`, round the base to what 4 bits hold (float32 again), add the adapter
  and merge; the logits are those of training to 1e-6. Merging into 4 bits would round what was
  learnt, and is not done. So prediction takes the memory of the base in float32.
- **Resuming** quantises the base again: the same release of bitsandbytes gives the same bits, and
  is part of a checkpoint's fingerprint.
- **On a CPU** all of it works, with the same numbers, by products of our own, as those of
  bitsandbytes 0.50 have two faults there, neither of which it tells. With AVX512-BF16 the first
  forward pass in evaluation mode lays weights out anew for a kernel in bf16 that has no gradient,
  and `train()` does not undo it: after one validation gradients are wrong. With AVX512 rows of 32,
  96, 160, … inputs (an odd number of half blocks) are given the scales of other blocks. Where you
  load an adapter plainly on a CPU and want the same numbers, set `support_avx512bf16_for_cpu =
  False` on every `Linear4bit` for the first; against the second only a GPU helps. PEFT's `dora`
  reads weights by bitsandbytes, so it is refused with one line where they are read wrongly.
- **On a GPU** the base is quantised on the CPU and then moved: float32 weights of linear layers
  never reach it. A GPU that bitsandbytes has no code for is one line before the first step.

## Made of other arms (`method: composed`, `of: …`)

`foreign` scores what others trained ([foreign.md](foreign.md)), `composed` what other arms of the
study have learnt, added up without training: `of: {lora_vision: 1.0, lora_text: 0.5}` is
W = W₀ + 1.0 · (W_vision - W₀) + 0.5 · (W_text - W₀), weight by weight in float64, adapters merged
(task arithmetic, Ilharco et al. 2023, https://arxiv.org/abs/2212.04089). Targets that overlap add
up; one arm at weight 1 is that arm, to the bit. Each seed is made of the runs of the same seed, and
its cost is that of these runs. Refused with one line: an unknown arm, one that does not merge, one
of another base, a circle, and a task that gives each arm a head of its own.
"""


def page(work: Path) -> str:
    """Run everything and return docs/methods.md."""
    import peft
    import transformers

    versions = {
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "torch": torch.__version__.partition("+")[0],
    }
    needed = "; ".join(
        f"{name} {', '.join(f'`{key}: {value}`' for key, value in given.items())}"
        for name, given in _NEEDED.items()
        if given
    )
    lines = [
        INTRODUCTION.format(**versions) + "\n".join(table(method_rows(), work)),
        BETWEEN.format(needed=needed) + "\n".join(table(peft_rows(), work)),
    ]
    return "\n".join(lines) + "\n" + AFTER


def main() -> None:
    """Write the page, or print some rows and columns."""
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", help="file to write, such as docs/methods.md")
    parser.add_argument("--only", nargs="+", default=[], help="rows and columns to print")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        if given.page and not given.only:
            write_text(given.page, page(Path(work)))
        else:
            every = {**method_rows(), **peft_rows()}
            print("\n".join(table(every, Path(work), given.only)))


if __name__ == "__main__":
    main()
