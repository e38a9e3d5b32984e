"""QLoRA: what is in 4 bits, what is trained, and the traps that fail without a word."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from methods_matrix import (
    TINY,
    Tiny,
    _llama,
    bound,
    cell,
    forwards,
    no_data,
    outputs,
    plainly,
    train,
)
from torch import nn

from peft_ablation.bases.architectures import model_architecture
from peft_ablation.bases.quantisation import FourBits, dequantise, quantise
from peft_ablation.errors import InputError
from peft_ablation.methods.parameters import count_parameters

WIDE = Tiny("LlamaForCausalLM", lambda: _llama(hidden_size=64, intermediate_size=128), "text")
"""Wide enough for the kernels that tiny layers do not reach."""
ARM = {"method": "qlora", "targets": "all", "dropout": 0.0}
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip
"""The 16 numbers as Dettmers et al. 2023 print them (appendix E)."""


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wide Llama's base in `base/`."""
    folder = tmp_path_factory.mktemp("qlora")
    WIDE.write(folder / "base")
    return folder


@pytest.fixture
def stories(shared_data: Path) -> Path:
    """A trained Llama."""
    folder = shared_data.parent / "bases" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no trained Llama at {folder}")
    return folder


def applied(base: Path, arm: dict[str, Any], tiny: Tiny = WIDE, **given: Any) -> Any:
    told = {"seed": 3, "heads": tiny.heads, "steps": 10, "batches": lambda: forwards(tiny)}
    return bound(arm).apply(tiny.load(base), **{**told, **given})


def four_bit_layers(model: nn.Module) -> dict[str, Any]:
    return {n: m for n, m in model.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}


# -- what is in 4 bits ---------------------------------------------------------------------------


def test_weights_become_the_nearest_of_the_published_numbers_times_the_largest_of_their_block() -> (
    None
):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16))
    blocks = model[0].weight.detach().clone().view(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    table = torch.tensor(NF4)
    nearest = table[(blocks / largest)[..., None].sub(table).abs().argmin(-1)]
    dequantise(model, ["0"], FourBits("nf4", double_quant=False), bitsandbytes)
    assert torch.allclose(model[0].weight.view(-1, 64), nearest * largest, atol=1e-7)


@pytest.mark.parametrize(("double_quant", "bytes_a_weight"),
                         [(True, 0.5 + 1 / 64 + 4 / 16384), (False, 0.5 + 4 / 64)])  # fmt: skip
def test_a_weight_takes_four_bits_and_its_share_of_the_scales(
    double_quant: bool, bytes_a_weight: float
) -> None:
    model = nn.Sequential(nn.Linear(256, 256, bias=False))
    quantise(model, ["0"], FourBits("nf4", double_quant), bitsandbytes)
    weight = model[0].weight
    state = weight.quant_state
    scales = [state.absmax] + ([state.state2.absmax] if double_quant else [])
    found = sum(t.numel() * t.element_size() for t in (weight.data, *scales))
    assert found == 256 * 256 * bytes_a_weight


def test_all_linear_layers_but_the_heads_are_quantised_and_nothing_else() -> None:
    for name, kept in (("Llama", {"lm_head"}), ("RoBERTa", {"classifier"}), ("GIT", {"output"})):
        tiny = TINY[name]
        model = tiny.make()
        linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        arm = {"method": "qlora", "targets": "attention"}
        adapted = bound(arm).apply(model, seed=0, heads=tiny.heads, steps=1, batches=no_data)
        found = {
            name.removeprefix("base_model.model.").removesuffix(".base_layer")
            for name in four_bit_layers(adapted)
        }
        assert found == {n for n in linear if n.partition(".")[0] not in kept}, name
        other = {p.dtype for p in adapted.parameters() if not hasattr(p, "quant_state")}
        assert other == {torch.float32}


def test_rounded_layers_count_as_changed_and_heads_do_not() -> None:
    method, base = bound({**ARM, "targets": "attention"}), model_architecture(TINY["Llama"].make())
    assert method.changes("model.layers.0.mlp.up_proj", base)
    assert method.changes("model.layers.0.self_attn.q_proj", base)
    assert not method.changes("lm_head", base)
    assert not method.changes("model.norm", base)


def test_parameters_are_counted_as_those_that_4_bits_stand_for(work: Path) -> None:
    lora = bound({**ARM, "method": "lora"}).apply(
        WIDE.load(work / "base"), seed=3, heads=(), steps=1, batches=lambda: forwards(WIDE)
    )
    assert count_parameters(applied(work / "base", ARM)) == count_parameters(lora)


def test_adapters_begin_as_those_of_lora_from_the_same_seed(work: Path) -> None:
    lora = bound({**ARM, "method": "lora"}).apply(
        WIDE.load(work / "base"), seed=3, heads=(), steps=1, batches=lambda: forwards(WIDE)
    )
    own = {n: p for n, p in applied(work / "base", ARM).named_parameters() if p.requires_grad}
    expected = {n: p for n, p in lora.named_parameters() if p.requires_grad}
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)


# -- the trap of AVX512-BF16 ---------------------------------------------------------------------


def gradients(base: Path, between: Callable[[nn.Module], object]) -> dict[str, torch.Tensor]:
    """Return the gradients of a second step, after something was done with the model."""
    run = train(WIDE, base, ARM, stop=1)
    between(run.model)
    run.method.train_mode(run.model)
    WIDE.loss(run.model, WIDE.batch(1)).backward()
    return {n: p.grad for n, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("between", [
    lambda model: outputs(WIDE, model),
    lambda model: (outputs(WIDE, model), model.state_dict()),
], ids=["validation", "validation and saving"])  # fmt: skip
def test_a_validation_between_steps_changes_no_later_gradient(
    between: Callable[[nn.Module], object], work: Path
) -> None:
    straight = gradients(work / "base", lambda model: None)
    after = gradients(work / "base", between)
    assert len(straight) == 2 * 2 * 7
    assert straight.keys() == after.keys()
    assert all(torch.equal(straight[name], after[name]) for name in straight)


def test_the_library_s_own_layer_would_spoil_them_on_such_a_cpu(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law above on any CPU: what lays weights out anew for such a one is never asked to."""

    def repacks(*_: Any, **__: Any) -> None:
        raise AssertionError("laid out anew")

    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    monkeypatch.setattr("bitsandbytes.nn.modules._convert_weight_packed_for_cpu", repacks)
    model = applied(work / "base", ARM)
    layers = four_bit_layers(model).values()
    assert len(layers) == 2 * 7
    assert all(layer.support_avx512bf16_for_cpu for layer in layers)
    outputs(WIDE, model)
    for layer in layers:
        layer.__class__ = bitsandbytes.nn.Linear4bit
    with pytest.raises(AssertionError, match="laid out anew"):
        outputs(WIDE, model)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(16, 32), (8, 96), (64, 64), (5, 172), (3, 20), (33, 32)])
def test_products_are_those_of_the_rounded_weights_whatever_their_shape(
    shape: tuple[int, int], quant_type: str, double_quant: bool
) -> None:
    """bitsandbytes' own product gives rows of 32 or 96 the scales of other blocks, with AVX512."""
    torch.manual_seed(0)
    how = FourBits(quant_type, double_quant)
    model = nn.Sequential(nn.Linear(shape[1], shape[0]))
    weight, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    quantise(model, ["0"], how, bitsandbytes)
    packed, state = model[0].weight.data.view(-1), model[0].weight.quant_state
    scales = state.absmax
    if double_quant:
        scales = bitsandbytes.functional.dequantize_blockwise(scales, state.state2) + state.offset
    places = torch.stack((packed >> 4, packed & 15), 1).view(-1).long()
    values = state.code[places] * scales.repeat_interleave(64)[: len(places)]
    expected = values.view(shape)
    # Half of the largest gap of nf4 times the largest weight of a block; of fp4, a sixth.
    assert float((expected - weight).abs().max() / weight.abs().max()) < 0.18
    x = torch.randn(4, shape[1], requires_grad=True)
    y = model(x)
    assert torch.allclose(y, x @ expected.T + bias, atol=1e-6)
    y.square().sum().backward()
    assert torch.allclose(x.grad, 2 * y.detach() @ expected, atol=1e-5)
    other = nn.Sequential(nn.Linear(shape[1], shape[0]))
    other[0].weight.data = weight
    dequantise(other, ["0"], how, bitsandbytes)
    assert torch.equal(other[0].weight, expected)


@pytest.mark.parametrize("how", ["autocast", "compute_dtype"])
def test_products_in_bfloat16_have_gradients_in_float32(how: str) -> None:
    torch.manual_seed(0)
    exact, rounded = (nn.Sequential(nn.Linear(64, 32)) for _ in range(2))
    rounded.load_state_dict(exact.state_dict())
    quantise(exact, ["0"], FourBits("nf4", True), bitsandbytes)
    inside = "bfloat16" if how == "compute_dtype" else "float32"
    quantise(rounded, ["0"], FourBits("nf4", True, inside), bitsandbytes)
    x = torch.randn(4, 64)
    found = []
    for model in (exact, rounded):
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast" and model is rounded):
            y = model(given)
        y.square().sum().backward()
        assert y.dtype == given.grad.dtype == torch.float32
        found.append((y.detach(), given.grad))
    for one, other in zip(*found, strict=True):
        # bfloat16 has eight bits.
        assert 0 < float((one - other).abs().max() / one.abs().max()) < 2**-6


# -- straight, killed and resumed ----------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"])
def test_killed_and_resumed_equals_straight_with_every_optimizer(
    optimizer: str, work: Path
) -> None:
    """A rank of 64 on a width of 64: the least that 8-bit states are kept of."""
    arm = {"method": "qlora", "targets": "attention", "r": 64, "learning_rate": 1e-3}
    seen = cell(WIDE, arm, work, optimizer)
    assert (seen.refused, seen.failed) == (None, None)
    run = train(WIDE, work / "base", arm, stop=1, optimizer_name=optimizer)
    types = {state["state1"].dtype for state in run.optimizer.state.values()}
    # Keys and values of two heads are 32 wide: smaller matrices stay in float32.
    assert types == ({torch.float32, torch.uint8} if "8bit" in optimizer else {torch.float32})


def test_dora_lives_where_its_norms_are_read_rightly_and_is_refused_elsewhere(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = {"method": "qlora", "targets": "attention", "dora": True}
    seen = cell(WIDE, arm, work)
    assert (seen.refused, seen.failed) == (None, None)
    assert seen.merged is not None
    read = bitsandbytes.functional.dequantize_4bit

    def wrongly(data: torch.Tensor, state: Any) -> torch.Tensor:
        return read(data, state) * (1.5 if state.shape[1] == 128 else 1.0)

    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", wrongly)
    with pytest.raises(InputError, match=r"dora: .* model.layers.0.mlp.down_proj wrong on") as told:
        applied(work / "base", arm)
    assert "\n" not in str(told.value)


def test_quantising_again_gives_the_same_bits(work: Path) -> None:
    one, other = (applied(work / "base", ARM).state_dict() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# -- the result ----------------------------------------------------------------------------------


def story_batch(step: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {"input_ids": torch.randint(3, 512, (4, 24), generator=draw)}


class Stories(Tiny):
    """The trained Llama, on texts of no meaning."""

    def batch(self, index: int) -> dict[str, torch.Tensor]:
        return story_batch(index % 4)

    def logits(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch).logits

    def loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch, labels=batch["input_ids"]).loss


STORIES = Stories("LlamaForCausalLM", lambda: None, "text")


@pytest.mark.parametrize("double_quant", [True, False])
def test_an_adapter_loads_plainly_on_a_trained_base_that_transformers_quantised(
    double_quant: bool, stories: Path, tmp_path: Path
) -> None:
    run = train(STORIES, stories, {**ARM, "double_quant": double_quant}, stop=3)
    run.method.save(run.model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    plain = plainly(STORIES, run.method, stories, tmp_path)
    layers = four_bit_layers(plain)
    assert len(layers) == 5 * 7
    for layer in layers.values():
        layer.__class__ = bitsandbytes.nn.Linear4bit
        layer.support_avx512bf16_for_cpu = False
    assert torch.equal(outputs(STORIES, plain), outputs(STORIES, run.model))


def test_predictions_are_those_of_the_rounded_base_with_the_adapter_in_its_weights(
    stories: Path, tmp_path: Path
) -> None:
    run = train(STORIES, stories, ARM, stop=3)
    run.method.save(run.model, tmp_path)
    trained = outputs(STORIES, run.model)
    loaded = run.method.load(STORIES.load, stories, tmp_path)
    assert not four_bit_layers(loaded)
    assert not hasattr(loaded, "peft_config")
    # 1e-6 of the logits' size.
    assert float((outputs(STORIES, loaded) - trained).abs().max() / trained.abs().max()) < 1e-6
    # The same adapter on the base as it was is another model: the test above is no empty one.
    other = bound({**ARM, "method": "lora"}).load(STORIES.load, stories, tmp_path)
    assert float((outputs(STORIES, other) - trained).abs().max() / trained.abs().max()) > 1e-2


def test_the_type_of_products_is_the_arm_s(work: Path) -> None:
    for name in ("float32", "bfloat16"):
        layers = four_bit_layers(applied(work / "base", {**ARM, "compute_dtype": name})).values()
        assert {layer.compute_dtype for layer in layers} == {getattr(torch, name)}


# -- without the library, or without its GPU -----------------------------------------------------


def test_without_bitsandbytes_one_line_says_what_to_install(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    bound(ARM).check(model_architecture(WIDE.make()))
    with pytest.raises(InputError, match=r"method qlora: needs .* 'peft-ablation\[quan") as told:
        applied(work / "base", ARM)
    assert "\n" not in str(told.value)


def test_a_gpu_that_bitsandbytes_does_not_know_is_named_in_one_line(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card X")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", unknown)
    with pytest.raises(InputError, match=r"method qlora: .* GPU, Card X \(CUDA error: no") as told:
        applied(work / "base", ARM)
    assert "\n" not in str(told.value)
