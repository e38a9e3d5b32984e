"""Methods: each through its whole life on one architecture, and each trap that was met.

`tests/methods_matrix.py` runs every method on every architecture; what it makes stands in
docs/methods.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_matrix import (
    TINY,
    Checkpoint,
    bound,
    cell,
    forwards,
    method_rows,
    no_data,
    outputs,
    peft_rows,
    plainly,
    train,
)
from peft.tuners.lora import LoraLayer
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from peft_ablation.bases.architectures import architecture, model_architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import method_class
from peft_ablation.methods.parameters import count_parameters, trainable_state
from peft_ablation.plugins import built_in

Arm = dict[str, Any]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of an architecture, with its base in `base/`."""
    root = tmp_path_factory.mktemp("methods")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            TINY[name].write(path / "base")
        return path

    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def applied(name: str, work: Callable[[str], Path], arm: Arm, **given: Any) -> Any:
    """Return a fresh model with the arm's method, and the method."""
    tiny = TINY[name]
    method = bound(arm)
    model = method.apply(
        given.pop("model", None) or tiny.load(work(name) / "base"),
        **{
            "seed": 3,
            "heads": tiny.heads,
            "steps": 10,
            "batches": lambda: forwards(tiny),
            **given,
        },
    )
    return model, method


def on_meta(model_class: Any, config: Any) -> nn.Module:
    with torch.device("meta"):
        return model_class(config)


def learnt(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# -- whole lives ---------------------------------------------------------------------------------

LIVES: list[tuple[str, Arm, bool]] = [
    ("ResNet", {"method": "full", "learning_rate": 1e-3}, False),
    ("GPT-2", {"method": "lora", "targets": "all"}, True),
    ("ResNet", {"method": "lora", "targets": "convolutions", "dora": True}, True),
    ("RoBERTa", {"method": "lora", "targets": "all", "loraplus": 16}, True),
    ("GPT-2", {"method": "lora", "targets": "attention", "init": "pissa"}, True),
    (
        "ViT",
        {"method": "lora", "targets": "mlp", "init": "pissa_niter_2", "rslora": True},
        True,
    ),
    ("Llama", {"method": "lora", "targets": "attention", "init": "olora", "dora": True}, True),
    ("Llama", {"method": "lora", "targets": "mlp", "init": "orthogonal"}, True),
    ("Llama", {"method": "lora", "targets": "attention", "init": "eva", "r": 4}, True),
    ("ViT", {"method": "lora", "targets": "attention", "train_norms": True}, True),
    ("GPT-2", {"method": "adalora", "targets": "attention"}, True),
    ("RoBERTa", {"method": "ia3", "targets": "all", "feedforward": "mlp"}, True),
    ("ResNet", {"method": "bitfit"}, False),
    ("GIT", {"method": "last_layers"}, False),
    ("GIT", {"method": "lora", "targets": "projection"}, True),
    ("RoBERTa", {"method": "head_only"}, False),
    ("RoBERTa", {"method": "prompt", "tokens": 4}, False),
    ("GPT-2", {"method": "prefix", "tokens": 4}, False),
    ("Llama", {"method": "qlora", "targets": "all", "quant_type": "fp4"}, True),
    ("Llama", {"method": "qlora", "targets": "attention", "rslora": True, "loraplus": 4}, True),
    ("RoBERTa", {"method": "qlora", "targets": "mlp", "double_quant": False}, True),
    ("GIT", {"method": "qlora", "targets": "text", "train_norms": True}, True),
    ("Llama", {"method": "none"}, False),
    ("ViT", {"method": "peft", "type": "loha", "targets": "attention"}, True),
]


@pytest.mark.parametrize(("name", "arm", "merges"), LIVES, ids=lambda v: str(v)[:60])
def test_trains_resumes_to_the_same_bytes_and_loads_plainly(
    name: str, arm: Arm, merges: bool, work: Callable[[str], Path]
) -> None:
    seen = cell(TINY[name], arm, work(name))
    assert (seen.refused, seen.failed) == (None, None)
    assert (seen.merged is not None) is merges
    # What works through the wrapped forward alone says so, and nothing else does.
    assert bound(arm).wraps_forward is not seen.own_forward


# -- what is trained: counts that were published, or worked out by hand ---------------------------


def test_lora_on_vit_tiny_is_the_published_count_of_trained_parameters() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=10)
    model = on_meta(ViTForImageClassification, config)
    arm = {"method": "lora", "targets": "all", "r": 4, "train_norms": True}
    method = bound(arm)
    adapted = method.apply(model, seed=0, heads=("classifier",), steps=1, batches=lambda: no_data())
    assert count_parameters(adapted).trainable == 177_418


@pytest.mark.parametrize(
    ("targets", "trainable", "total"),
    [("vision", 1_327_104, 177_946_170), ("text", 663_552, 177_282_618)],
)
def test_lora_on_git_base_is_the_published_count(targets: str, trainable: int, total: int) -> None:
    from transformers import GitConfig, GitForCausalLM

    method = bound({"method": "lora", "targets": targets})
    adapted = method.apply(
        on_meta(GitForCausalLM, GitConfig()),
        seed=0, heads=(), steps=1, batches=lambda: no_data(),
    )  # fmt: skip
    assert count_parameters(adapted) == (trainable, total)
    assert all("lora_" in name for name in learnt(adapted))


def test_bitfit_trains_the_biases_of_vit_tiny_and_its_head() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=10)
    model = bound({"method": "bitfit"}).apply(
        on_meta(ViTForImageClassification, config),
        seed=0, heads=("classifier",), steps=1, batches=lambda: no_data(),
    )  # fmt: skip
    # 12 layers of q, k, v, o, fc1, fc2, two norms; last norm; patches; head's bias; head's weight.
    biases = 12 * (4 * 192 + 768 + 192 + 2 * 192) + 192 + 192 + 10
    assert biases == 25_738
    assert count_parameters(model).trainable == biases + 10 * 192


def test_last_layers_are_the_last_blocks_and_the_norm_after_them(
    work: Callable[[str], Path],
) -> None:
    for name, n, expected in (
        ("ViT", 1, ("vit.layers.1.", "vit.layernorm.", "classifier.")),
        ("GPT-2", 2, ("transformer.h.0.", "transformer.h.1.", "transformer.ln_f.")),
        ("Llama", 1, ("model.layers.1.", "model.norm.")),
        ("RoBERTa", 1, ("roberta.encoder.layer.1.", "classifier.")),
        ("ResNet", 2, ("resnet.encoder.stages.1.layers.0.", "resnet.encoder.stages.1.layers.1.",
                       "classifier.")),
        ("GIT", 1, ("git.encoder.layer.1.",)),
    ):  # fmt: skip
        model, _ = applied(name, work, {"method": "last_layers", "n": n})
        every = {parameter for parameter, _ in model.named_parameters()}
        assert learnt(model) == {p for p in every if p.startswith(expected)}, name
        assert all(any(p.startswith(begin) for p in learnt(model)) for begin in expected), name


def test_head_only_trains_the_output_layer_where_the_task_makes_no_head(
    work: Callable[[str], Path],
) -> None:
    model, _ = applied("Llama", work, {"method": "head_only"})
    assert learnt(model) == {"lm_head.weight"}


@pytest.mark.parametrize(
    ("name", "arm", "changed", "kept"),
    [
        ("GIT", {"method": "lora", "targets": "text"}, "git.encoder.layer.0.output.dense",
         "git.image_encoder.vision_model.encoder.layers.0.mlp.fc1"),
        ("GIT", {"method": "lora", "targets": "text", "train_norms": True},
         "git.image_encoder.vision_model.post_layernorm", "git.visual_projection"
         ".visual_projection.0"),
        ("GIT", {"method": "lora", "targets": "projection"}, "git.visual_projection"
         ".visual_projection.0", "git.encoder.layer.0.output.dense"),
        ("ViT", {"method": "full"}, "vit.layers.0.mlp.fc1", None),
        ("ViT", {"method": "none"}, None, "vit.layers.0.mlp.fc1"),
        ("ViT", {"method": "head_only"}, "classifier", "vit.layers.1.mlp.fc1"),
        ("ViT", {"method": "last_layers"}, "vit.layers.1.mlp.fc1", "vit.layers.0.mlp.fc1"),
        ("ResNet", {"method": "bitfit"}, "resnet.encoder.stages.0.layers.0.layer.0.normalization",
         "resnet.encoder.stages.0.layers.0.layer.0.convolution"),
        ("GPT-2", {"method": "prefix"}, "transformer.h.0.mlp.c_fc", None),
        ("Llama", {"method": "ia3", "targets": "regex:.*k_proj"},
         "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.q_proj"),
        ("Llama", {"method": "adalora", "targets": "regex:.*k_proj"},
         "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.q_proj"),
        ("Llama", {"method": "peft", "type": "VERA", "targets": "regex:.*k_proj"},
         "model.layers.0.self_attn.k_proj", "model.layers.0.self_attn.q_proj"),
    ],
)  # fmt: skip
def test_changes_names_the_modules_that_training_moves(
    name: str, arm: Arm, changed: str | None, kept: str | None
) -> None:
    method, base = bound(arm), model_architecture(TINY[name].make())
    names = {module.name for module in base.modules}
    assert {changed, kept} - {None} <= names
    assert changed is None or method.changes(changed, base)
    assert kept is None or not method.changes(kept, base)


# -- initial values ------------------------------------------------------------------------------


def test_lora_draws_what_peft_draws_from_the_seed(work: Callable[[str], Path]) -> None:
    from peft import LoraConfig, get_peft_model

    reference = TINY["ViT"].load(work("ViT") / "base")
    torch.manual_seed(7)
    reference = get_peft_model(
        reference,
        LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]),
    )
    torch.manual_seed(1234)  # the state of the generator before must not matter
    model, _ = applied(
        "ViT", work, {"method": "lora", "targets": "regex:.*[qv]_proj"}, seed=7, heads=()
    )
    expected, own = trainable_state(reference), trainable_state(model)
    assert len(own) == 8
    assert expected.keys() == own.keys()
    assert all(torch.equal(expected[name], own[name]) for name in own)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora", "orthogonal", "eva"])
def test_every_initialisation_begins_with_the_function_of_the_base(
    init: str, work: Callable[[str], Path]
) -> None:
    tiny = TINY["Llama"]
    model, _ = applied("Llama", work, {"method": "lora", "targets": "attention", "init": init})
    expected = outputs(tiny, tiny.load(work("Llama") / "base"))
    assert torch.allclose(outputs(tiny, model), expected, atol=2e-6)


def test_pissa_holds_the_largest_singular_values(work: Callable[[str], Path]) -> None:
    arm = {"method": "lora", "targets": "attention", "init": "pissa", "r": 4, "alpha": 4}
    model, _ = applied("Llama", work, arm)
    base = TINY["Llama"].load(work("Llama") / "base").get_submodule("model.layers.0.self_attn")
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = torch.linalg.svdvals(base.q_proj.weight)
    assert torch.allclose(torch.linalg.svdvals(product)[:4], expected[:4], atol=1e-6)
    assert torch.allclose(torch.linalg.svdvals(layer.weight)[0], expected[4], atol=1e-6)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_1", "olora"])
def test_decomposed_weights_are_resumed_without_decomposing_them_anew(
    init: str, work: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, base = TINY["Llama"], work("Llama") / "base"
    arm = {"method": "lora", "targets": "attention", "init": init}
    whole = train(tiny, base, arm, stop=4)
    stopped = train(tiny, base, arm, stop=2)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    checkpoint.write(stopped.method, stopped.model, stopped.optimizer)

    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError("decomposed anew")

    for name in ("svd", "qr"):
        monkeypatch.setattr(torch.linalg, name, fails)
    monkeypatch.setattr("peft.tuners.lora.layer.svd_lowrank", fails)
    # Another seed stands for another machine, on which the randomised SVD would differ.
    resumed = train(tiny, base, arm, stop=4, resume=checkpoint, seed=4)
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_decomposing_adapters_are_saved_as_plain_lora_of_twice_the_rank(
    work: Callable[[str], Path], tmp_path: Path
) -> None:
    tiny, base = TINY["ViT"], work("ViT") / "base"
    arm = {"method": "lora", "targets": "mlp", "init": "pissa_niter_1", "r": 4, "alpha": 8}
    for rslora, alpha in ((False, 16), (True, 8 * 2**0.5)):
        run = train(tiny, base, {**arm, "rslora": rslora}, stop=3)
        folder = tmp_path / str(rslora)
        folder.mkdir()
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.method.save(run.model, folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["init_lora_weights"]) == (8, True)
        assert config["lora_alpha"] == pytest.approx(alpha)
        torch.manual_seed(0)
        plain = outputs(tiny, plainly(tiny, run.method, base, folder))
        assert torch.allclose(plain, outputs(tiny, run.model), atol=1e-6)
        after = run.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert run.model.peft_config["default"].r == 4


# -- EVA -----------------------------------------------------------------------------------------


def test_eva_moves_ranks_but_not_their_sum_and_resumes_without_data(
    work: Callable[[str], Path],
) -> None:
    arm = {"method": "lora", "targets": "attention", "init": "eva", "r": 4}
    model, method = applied("Llama", work, arm)
    ranks = {k: int(v) for k, v in method.state(model).items() if k.startswith("rank.")}
    assert sum(ranks.values()) == 8 * 4  # two layers of q, k, v, o
    assert len(set(ranks.values())) > 1
    again, _ = applied("Llama", work, arm, state=method.state(model), batches=lambda: no_data())
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {name: tuple(p.shape) for name, p in again.named_parameters()}
    scalings = [
        layer.scaling["default"] for layer in model.modules() if isinstance(layer, LoraLayer)
    ]
    assert scalings == [
        layer.scaling["default"] for layer in again.modules() if isinstance(layer, LoraLayer)
    ]


def test_eva_takes_the_main_directions_of_the_inputs(work: Callable[[str], Path]) -> None:
    tiny = TINY["ViT"]
    arm = {"method": "lora", "targets": "regex:vit.layers.0.mlp.fc1", "init": "eva", "r": 2}
    model, _ = applied("ViT", work, arm)
    base, seen = tiny.load(work("ViT") / "base"), []
    base.vit.layers[0].mlp.fc1.register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    with torch.no_grad():
        for run in forwards(tiny):
            run(base)
    inputs = torch.cat([each.flatten(0, -2) for each in seen])
    expected = torch.linalg.svd(inputs - inputs.mean(0), full_matrices=False).Vh[:2]
    layer = model.get_submodule("base_model.model.vit.layers.0.mlp.fc1")
    overlap = torch.linalg.svdvals(expected @ layer.lora_A["default"].weight.T)
    assert overlap.min() > 0.95


def test_eva_that_cannot_converge_ends_with_one_line(
    work: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft_ablation.methods._peft._EVA_LIMIT", 3)
    arm = {"method": "lora", "targets": "attention", "init": "eva", "r": 4}
    with pytest.raises(InputError, match="eva has not converged after 3 batches"):
        applied("Llama", work, arm)


# -- LoRA+ ---------------------------------------------------------------------------------------


def test_loraplus_is_fast_for_b_alone_and_never_for_the_bias_of_a_head(
    work: Callable[[str], Path],
) -> None:
    model, method = applied(
        "RoBERTa", work, {"method": "lora", "targets": "attention", "loraplus": 16, "dora": True}
    )
    groups = method.optimizer_groups(model, 0.01)
    names = {id(p): name for name, p in model.named_parameters()}
    by_rate = {group["rate"]: {names[id(p)] for p in group["params"]} for group in groups}
    assert by_rate.keys() == {1.0, 16.0}
    assert by_rate[16.0] == {name for name in learnt(model) if ".lora_B." in name}
    assert by_rate[1.0] == learnt(model) - by_rate[16.0]
    assert any("classifier" in name and name.endswith("bias") for name in by_rate[1.0])
    assert {group["weight_decay"] for group in groups} == {0.01}


def test_loraplus_moves_b_by_its_ratio_in_the_first_step(work: Callable[[str], Path]) -> None:
    arm = {"method": "lora", "targets": "attention", "learning_rate": 1e-3, "dropout": 0.0}
    tiny, base = TINY["RoBERTa"], work("RoBERTa") / "base"
    moved = {}
    for ratio in (None, 16):
        given = {**arm, "loraplus": ratio}
        before = {k: v.clone() for k, v in trainable_state(train(tiny, base, given, stop=0).model)
                  .items()}  # fmt: skip
        after = trainable_state(train(tiny, base, given, stop=1).model)
        moved[ratio] = {name: float((after[name] - before[name]).abs().max()) for name in before}
    # Adam's first step is the learning rate in every element that has a gradient.
    of_b = [name for name in moved[16] if ".lora_B." in name]
    of_head = [name for name in moved[16] if "classifier" in name]
    assert all(moved[16][name] == pytest.approx(16e-3, rel=0.03) for name in of_b)
    assert all(moved[16][name] == pytest.approx(1e-3, rel=0.05) for name in of_head)
    assert all(moved[None][name] == pytest.approx(1e-3, rel=0.05) for name in of_b)


# -- AdaLoRA -------------------------------------------------------------------------------------


def test_adalora_hands_out_the_term_that_peft_adds_to_its_own_loss_alone(
    work: Callable[[str], Path],
) -> None:
    model, method = applied("GPT-2", work, {"method": "adalora", "targets": "attention"})
    ids = TINY["GPT-2"].batch(0)["input_ids"]
    model.eval()
    with_term = model.base_model(input_ids=ids, labels=ids).loss  # AdaLoRA's own forward
    without = model.get_base_model()(input_ids=ids, labels=ids).loss
    term = method.extra_loss(model)
    assert term is not None
    assert float(term.detach()) == pytest.approx(float((with_term - without).detach()), rel=1e-5)
    assert float(term.detach()) > 0.1
    term.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lora_A" in name)


@pytest.mark.parametrize("last", [0.0, 0.3])
def test_adalora_ends_with_the_ranks_it_promises(last: float, work: Callable[[str], Path]) -> None:
    arm = {"method": "adalora", "targets": "attention", "r": 3, "init_r": 6, "last": last}
    run = train(TINY["ViT"], work("ViT") / "base", arm)
    kept = [v for k, v in run.method.state(run.model).items() if k.startswith("kept.")]
    assert len(kept) == 8
    assert sum(int(ranks.sum()) for ranks in kept) == 8 * 3


def test_adalora_reads_the_gradients_of_the_step(work: Callable[[str], Path]) -> None:
    model, method = applied("ViT", work, {"method": "adalora", "targets": "attention"})
    tiny = TINY["ViT"]
    tiny.loss(model, tiny.batch(0)).backward()
    method.after_step(model, 0)
    name = "ipt.vit.layers.0.attention.q_proj.lora_A.default"
    layer = model.get_submodule("base_model.model.vit.layers.0.attention.q_proj")
    matrix = layer.lora_A["default"]
    assert torch.equal(method.state(model)[name], (matrix * matrix.grad).abs().detach())


# -- BatchNorm -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arm",
    [
        {"method": "lora", "targets": "convolutions"},
        {"method": "lora", "targets": "convolutions", "train_norms": True},
        {"method": "bitfit"},
        {"method": "last_layers"},
        {"method": "full"},
    ],
)
def test_a_frozen_base_keeps_the_statistics_of_batchnorm(
    arm: Arm, work: Callable[[str], Path]
) -> None:
    tiny = TINY["ResNet"]
    model, method = applied("ResNet", work, arm)
    before = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
    method.train_mode(nn.Sequential(model))  # a loss module holds the model
    tiny.loss(model, tiny.batch(0))
    after = dict(model.named_buffers())
    same = [torch.equal(before[name], after[name]) for name in before]
    assert len(same) >= 10
    assert all(same) if arm["method"] != "full" else not any(same)
    assert model.training


def test_micro_batches_of_a_frozen_base_give_the_gradient_of_the_batch(
    work: Callable[[str], Path],
) -> None:
    tiny = TINY["ResNet"]
    arm = {"method": "lora", "targets": "convolutions", "dropout": 0.0}
    gradients = []
    for parts in (1, 4):
        model, method = applied("ResNet", work, arm)
        method.train_mode(model)
        batch = tiny.batch(0)
        for rows in torch.arange(8).chunk(parts):
            part = {key: value[rows] for key, value in batch.items()}
            (tiny.loss(model, part) / parts).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    one, other = gradients
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


# -- virtual tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_virtual_tokens_are_unseen_by_modules_called_by_themselves(
    method: str, work: Callable[[str], Path]
) -> None:
    tiny, base = TINY["GPT-2"], work("GPT-2") / "base"
    run = train(tiny, base, {"method": method, "tokens": 4}, stop=3)
    assert run.method.wraps_forward
    untouched = outputs(tiny, tiny.load(base))
    assert torch.equal(outputs(tiny, run.model.get_base_model()), untouched)
    assert not torch.allclose(outputs(tiny, run.model), untouched)


def test_prompt_gives_logits_of_the_text_alone_in_training_and_loaded(
    work: Callable[[str], Path], tmp_path: Path
) -> None:
    tiny, base = TINY["GPT-2"], work("GPT-2") / "base"
    run = train(tiny, base, {"method": "prompt", "tokens": 4}, stop=3)
    run.method.save(run.model, tmp_path)
    ids = tiny.batch(0)["input_ids"]
    whole = plainly(tiny, run.method, base, tmp_path)(input_ids=ids).logits
    assert whole.shape[1] == 4 + ids.shape[1]
    for model in (run.model, run.method.load(tiny.load, base, tmp_path)):
        assert torch.allclose(model(input_ids=ids).logits, whole[:, 4:], atol=1e-6)


@pytest.mark.parametrize("arm", [{"method": "prompt"}, {"method": "prefix"},
                                 {"method": "peft", "type": "P_TUNING"}])  # fmt: skip
def test_virtual_tokens_for_images_are_refused(arm: Arm, work: Callable[[str], Path]) -> None:
    for name in ("ViT", "GIT", "ResNet"):
        base = model_architecture(TINY[name].make())
        with pytest.raises(InputError, match="virtual tokens are not defined for"):
            bound(arm).check(base)
    with pytest.raises(InputError, match="virtual tokens are not defined for ViT"):
        applied("ViT", work, arm)
    for name in ("GPT-2", "Llama", "RoBERTa"):
        bound(arm).check(model_architecture(TINY[name].make()))


# -- what an architecture cannot have ------------------------------------------------------------

LLAMA = {"num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("name", "config", "arm", "line"),
    [
        ("LlamaForCausalLM", LLAMA, {"method": "bitfit"}, "bitfit trains biases, but Llama"),
        ("GPT2LMHeadModel", {}, {"method": "head_only"}, "shares its weight with transformer.wte"),
        ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}, {"method": "head_only"},
         "would train the input embedding too"),
        ("GPT2LMHeadModel", {}, {"method": "lora", "targets": "attention", "init": "olora"},
         "c_attn, a Conv1D; lora with init olora adapts Linear"),
        ("ResNetForImageClassification", {}, {"method": "lora", "targets": "all", "init": "pissa"},
         "a Conv2d; lora with init pissa adapts Linear, Conv1D"),
        ("ResNetForImageClassification", {}, {"method": "lora", "targets": "all", "init": "eva"},
         "a Conv2d; lora with init eva adapts Linear, Conv1D"),
        ("ViTForImageClassification", {},
         {"method": "lora", "targets": "regex:.*layernorm_before"}, "a LayerNorm; lora adapts"),
        ("ViTForImageClassification", {}, {"method": "lora", "targets": "attenton"},
         "did you mean 'attention'"),
        ("ViTForImageClassification", {}, {"method": "adalora", "targets": "vision"},
         "found 'vision'"),
        ("ViTForImageClassification", {}, {"method": "ia3", "targets": "attention",
                                           "feedforward": "mlp"}, "none of the targets"),
        ("ViTForImageClassification", {}, {"method": "ia3", "targets": "all",
                                           "feedforward": "mpl"}, "^feedforward: found 'mpl'"),
        ("ViTForImageClassification", {}, {"method": "last_layers", "n": 13},
         "found 13, but ViTForImageClassification has 12 layers"),
        ("CLIPModel", {}, {"method": "last_layers"}, "no one stack of layers"),
        ("ViTForImageClassification", {},
         {"method": "peft", "type": "LOHA", "targets": "attenton"}, "did you mean 'attention'"),
        ("ResNetForImageClassification", {},
         {"method": "peft", "type": "OFT", "targets": "all"}, "a Conv2d; peft OFT adapts Linear"),
        ("ViTForImageClassification", {},
         {"method": "peft", "type": "SHADOW", "settings": {"auxiliary_loss_weight": 0}},
         "SHADOW is not defined for ViT"),
        ("GPT2LMHeadModel", {}, {"method": "qlora", "targets": "attention"},
         "has Conv1D in their place .transformer.h.0.attn.c_attn.; choose lora"),
        ("ResNetForImageClassification", {}, {"method": "qlora", "targets": "all"},
         "ResNetForImageClassification has none besides its head"),
        ("ViTForImageClassification", {},
         {"method": "qlora", "targets": "regex:.*patch_embeddings.projection"},
         "a Conv2d; qlora adapts Linear"),
        ("LlamaForCausalLM", LLAMA, {"method": "lora", "targets": "attention",
                                     "init": "orthogonal", "r": 3}, "expected an even rank"),
    ],
)  # fmt: skip
def test_what_a_base_cannot_have_is_one_line_without_building_it(
    name: str, config: dict[str, Any], arm: Arm, line: str
) -> None:
    base = architecture(name, config)
    assert base is not None
    with pytest.raises(InputError, match=line) as told:
        bound(arm).check(base)
    assert "\n" not in str(told.value)


def test_targets_of_an_unknown_base_are_checked_by_their_form() -> None:
    bound({"method": "lora", "targets": "attention"}).check(None)
    bound({"method": "bitfit"}).check(None)
    with pytest.raises(InputError, match="did you mean 'attention'"):
        bound({"method": "lora", "targets": "attenton"}).check(None)
    with pytest.raises(InputError, match="is no regular expression"):
        bound({"method": "adalora", "targets": "regex:("}).check(None)


def test_a_tied_head_is_found_in_the_built_model_too(work: Callable[[str], Path]) -> None:
    from transformers import BertConfig, BertLMHeadModel

    # A class that is not shipped: only the tensors can tell.
    model = BertLMHeadModel(
        BertConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                   intermediate_size=8)
    )  # fmt: skip
    with pytest.raises(InputError, match="head_only would train 'cls"):
        applied("RoBERTa", work, {"method": "head_only"}, model=model, heads=())


def test_a_head_whose_name_ends_another_is_refused_with_adapters(
    work: Callable[[str], Path],
) -> None:
    arm = {"method": "lora", "targets": "vision"}
    with pytest.raises(InputError, match=r"'output' .* PEFT would take 'git.encoder.layer.0"):
        applied("GIT", work, arm, heads=("output",))
    with pytest.raises(InputError, match="the base has no such module"):
        applied("GIT", work, arm, heads=("classifier",))


@pytest.mark.parametrize("arm", [{"method": "lora"}, {"method": "ia3"}, {"method": "adalora"}])
def test_gpt2_weights_are_known_to_be_transposed(
    arm: Arm, work: Callable[[str], Path], tmp_path: Path
) -> None:
    for name, transposed in (("GPT-2", True), ("Llama", False)):
        method = bound({**arm, "targets": "attention"})
        config = method.config(model_architecture(TINY[name].make()), 10)
        assert config.fan_in_fan_out is transposed
    model, method = applied("GPT-2", work, {**arm, "targets": "attention"})
    method.save(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["fan_in_fan_out"] is True


def test_a_resized_vocabulary_is_not_saved_with_the_adapter(
    work: Callable[[str], Path], tmp_path: Path
) -> None:
    tiny, base = TINY["GPT-2"], work("GPT-2") / "base"
    model = tiny.load(base)
    model.resize_token_embeddings(70)
    adapted, method = applied("GPT-2", work, {"method": "lora", "targets": "mlp"}, model=model)
    method.save(adapted, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)
    plainly(tiny, method, base, tmp_path)


# -- files ---------------------------------------------------------------------------------------


def test_a_delta_holds_what_was_trained_and_nothing_else(
    work: Callable[[str], Path], tmp_path: Path
) -> None:
    run = train(TINY["ViT"], work("ViT") / "base", {"method": "bitfit"}, stop=2)
    run.method.save(run.model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"delta.safetensors", "delta.json"}
    saved = load_file(tmp_path / "delta.safetensors")
    assert saved.keys() == learnt(run.model)
    told = json.loads((tmp_path / "delta.json").read_text())
    assert (told["class"], told["method"]) == ("ViTForImageClassification", "bitfit")
    assert told["parameters"] == count_parameters(run.model).trainable


def test_a_delta_of_another_base_is_refused(work: Callable[[str], Path], tmp_path: Path) -> None:
    run = train(TINY["ViT"], work("ViT") / "base", {"method": "bitfit"}, stop=0)
    run.method.save(run.model, tmp_path)
    with pytest.raises(InputError, match="it was trained on another base"):
        run.method.load(TINY["RoBERTa"].load, work("RoBERTa") / "base", tmp_path)


def test_names_are_written_in_order_whatever_the_hashes_of_the_process(
    work: Callable[[str], Path], tmp_path: Path
) -> None:
    names = [f"layers.{number}.mlp" for number in range(9)]
    arm = {"method": "peft", "type": "LORA", "settings": {"exclude_modules": names[::-1]}}
    model, method = applied("Llama", work, arm)
    method.save(model, tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["exclude_modules"] == names
    assert written["target_modules"] == ["q_proj", "v_proj"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


# -- another run's weights -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arm",
    [
        {"method": "lora", "targets": "attention"},
        {"method": "bitfit"},
        {"method": "prompt", "tokens": 4},
    ],
)
def test_a_run_starts_from_anothers_weights_but_with_its_own_head(
    arm: Arm, work: Callable[[str], Path], tmp_path: Path
) -> None:
    first = train(TINY["RoBERTa"], work("RoBERTa") / "base", arm, stop=3)
    first.method.save(first.model, tmp_path)
    model, method = applied("RoBERTa", work, arm, seed=8)
    own = {name: value.clone() for name, value in trainable_state(model).items()}
    method.start_from(model, tmp_path, ("classifier",))
    begun, other = trainable_state(model), trainable_state(first.model)
    assert begun.keys() == other.keys()
    heads = {name for name in begun if "classifier" in name}
    assert len(heads) == 4
    assert all(torch.equal(begun[name], own[name]) for name in heads)
    assert not any(torch.equal(own[name], other[name]) for name in heads)
    assert all(torch.equal(begun[name], other[name]) for name in begun.keys() - heads)
    assert all(p.requires_grad for n, p in model.named_parameters() if n in begun)


def test_weights_that_do_not_fit_are_no_start(work: Callable[[str], Path], tmp_path: Path) -> None:
    arm = {"method": "lora", "targets": "attention", "r": 2}
    run = train(TINY["RoBERTa"], work("RoBERTa") / "base", arm, stop=0)
    run.method.save(run.model, tmp_path)
    for other in ({**arm, "r": 4}, {**arm, "targets": "mlp"}):
        model, method = applied("RoBERTa", work, other)
        with pytest.raises(InputError, match="does not fit the arm"):
            method.start_from(model, tmp_path, ("classifier",))
    model, method = applied("RoBERTa", work, {**arm, "init": "pissa"})
    with pytest.raises(InputError, match="init pissa takes the first adapter out of the base"):
        method.start_from(model, tmp_path, ("classifier",))
    model, method = applied("RoBERTa", work, {"method": "full"})
    with pytest.raises(InputError, match="method full cannot start from another run"):
        method.start_from(model, tmp_path, ("classifier",))


# -- settings, and the installed PEFT ------------------------------------------------------------


def test_peft_types_and_settings_are_those_of_the_installed_library() -> None:
    import dataclasses

    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from peft_ablation.methods._peft_types import peft_types

    found = peft_types()
    assert found.keys() == {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        own = found[kind.value]
        assert own.settings == {field.name for field in dataclasses.fields(config)}, kind
        assert own.virtual_tokens is issubclass(config, peft.PromptLearningConfig), kind


def test_settings_are_checked_without_torch() -> None:
    script = (
        "import sys\n"
        "from peft_ablation.bases.architectures import architecture\n"
        "from peft_ablation.methods import open_method, method_class\n"
        "from peft_ablation.plugins import built_in\n"
        "base = architecture('ViTForImageClassification', {})\n"
        "given = {'learning_rate': 1e-3, 'targets': 'attention'}\n"
        "for arm in ({'method': 'lora'}, {'method': 'peft', 'type': 'LOHA'}, {'method': 'ia3'},\n"
        "            {'method': 'adalora'}, {'method': 'qlora'}):\n"
        "    settings = method_class(arm['method']).Settings.model_validate({**given, **arm})\n"
        "    open_method(settings.model_dump(mode='json')).check(base)\n"
        "for name in ('full', 'bitfit', 'last_layers', 'head_only', 'prompt', 'prefix', 'none'):\n"
        "    method_class(name)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'bitsandbytes'} & sys.modules.keys()))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env=_environment(),
    )  # fmt: skip
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arm", "line"),
    [
        ({"method": "lora"}, "targets"),
        ({"method": "lora", "targets": "a", "init": "pisa"}, "did you mean 'pissa'"),
        ({"method": "lora", "targets": "a", "init": "pissa_niter_0"}, "allowed: default, gaussian"),
        ({"method": "lora", "targets": "a", "rank": 4}, "rank: unknown key"),
        ({"method": "full", "targets": "a"}, "targets: unknown key"),
        ({"method": "none", "learning_rate": 1e-3}, "less than or equal to 0"),
        ({"method": "adalora", "targets": "a", "first": 0.6, "last": 0.4}, "less than 1"),
        ({"method": "adalora", "targets": "a", "init_r": 4}, "expected at least r, 8"),
        ({"method": "qlora", "targets": "a", "init": "pissa"}, "allowed on a base in 4 bits: defa"),
        ({"method": "qlora", "targets": "a", "quant_type": "int4"}, "'nf4' or 'fp4'"),
        ({"method": "qlora", "targets": "a", "optimizer": "adam8bit"}, "paged_adamw_8bit"),
        ({"method": "peft", "type": "LOHAA"}, "did you mean 'LOHA'"),
        ({"method": "peft", "type": "LOHA", "settings": {"rank_dropuot": 1}},
         "did you mean 'rank_dropout'"),
        ({"method": "peft", "type": "LOHA", "settings": {"target_modules": ["q"]}},
         "name them by the arm's `targets`"),
        ({"method": "peft", "type": "P_TUNING", "targets": "all"}, "type P_TUNING takes none"),
        ({"method": "peft", "type": "LORA", "settings": {"init_lora_weights": "corda"}},
         "not offered"),
        ({"method": "peft", "type": "LORA", "settings": {"kasa_config": {}}}, "not offered"),
        ({"method": "peft", "type": "ADAMSS", "settings": {"use_asa": True}}, "in no checkpoint"),
        ({"method": "peft", "type": "XLORA"}, "mixes adapters that other runs have trained"),
        ({"method": "peft", "type": "SHADOW"}, "auxiliary_loss_weight: expected 0"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_when_they_are_read(arm: Arm, line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        method_class(arm["method"]).Settings.model_validate({"learning_rate": 1e-3, **arm})


def test_what_peft_refuses_is_one_line(work: Callable[[str], Path]) -> None:
    arm = {"method": "peft", "type": "C3A", "targets": "attention", "settings": {"block_size": 7}}
    with pytest.raises(InputError, match=r"PEFT refuses these settings: .*block size") as told:
        applied("Llama", work, arm)
    assert "\n" not in str(told.value)


def test_targets_that_peft_passes_over_are_refused(work: Callable[[str], Path]) -> None:
    arm = {"method": "peft", "type": "OSF", "targets": "all"}
    with pytest.raises(InputError, match="OSF leaves resnet"):
        applied("ResNet", work, arm)


def test_the_page_has_a_row_for_every_method_and_every_type() -> None:
    shipped = set(built_in("peft_ablation.methods", "METHOD"))
    assert {row.arm["method"] for row in method_rows().values()} == shipped - {
        "peft", "foreign", "composed",
    }  # fmt: skip
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text()
    names = {line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()}
    assert method_rows().keys() | peft_rows().keys() <= names
