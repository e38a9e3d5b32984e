"""Linear layers, dropout and GELUs for the CPU against those of torch and transformers."""

from pathlib import Path

import pytest
import torch
from test_git_model import batch, seen, tiny_git
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from peft_ablation.bases import cpu_kernels
from peft_ablation.bases.architectures import model_architecture
from peft_ablation.bases.cpu_kernels import Dropout, Linear, QuickGelu, dropout, lighten, pack
from peft_ablation.bases.git import supervised_losses


@pytest.fixture(autouse=True)
def as_on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train through oneDNN whatever the processor of this machine."""
    monkeypatch.setattr(cpu_kernels, "_LEARNS_BY_ONEDNN", cpu_kernels._ONEDNN)


@pytest.mark.parametrize("shape", [(5, 48), (3, 7, 48), (1, 48), (0, 48), (48,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.Linear(48, 80, bias=bias)
    own = Linear(48, 80, bias=bias)
    own.load_state_dict(theirs.state_dict())
    values = torch.randn(*shape)
    results = []
    for layer in (theirs, own):
        given = values.clone().requires_grad_()
        output = layer(given.transpose(0, -1).contiguous().transpose(0, -1))  # strided
        output.pow(2).sum().backward()
        results.append([output, given.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(expected, found, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("frozen", ["weight", "input"])
def test_linear_keeps_only_what_gradients_need(frozen: str) -> None:
    layer = Linear(48, 80).requires_grad_(frozen != "weight")
    given = torch.randn(9, 48, requires_grad=frozen != "input")
    output = layer(given)
    kept = [t is not None for t in output.grad_fn.saved_tensors]  # type: ignore[union-attr]
    assert kept == ([False, True] if frozen == "weight" else [True, False])
    output.sum().backward()  # a gradient that is one expanded number
    if frozen == "weight":
        assert layer.weight.grad is None and given.grad is not None
        assert torch.allclose(given.grad, layer.weight.sum(0).expand(9, 48), atol=1e-5)
    else:
        assert given.grad is None and layer.weight.grad is not None
        assert torch.allclose(layer.weight.grad, given.sum(0).expand(80, 48), atol=1e-5)


@pytest.mark.parametrize(("amd", "name"), [(True, "_Linear"), (False, "Addmm")])
def test_training_takes_onednn_on_amd_alone(
    monkeypatch: pytest.MonkeyPatch, amd: bool, name: str
) -> None:
    monkeypatch.setattr(cpu_kernels, "_LEARNS_BY_ONEDNN", amd and cpu_kernels._ONEDNN)
    if amd and not cpu_kernels._ONEDNN:
        pytest.skip("no oneDNN on this processor")
    output = Linear(48, 80)(torch.randn(9, 48))
    assert type(output.grad_fn).__name__ == f"{name}Backward{'' if amd else '0'}"


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "GenuineIntel"])
def test_the_processors_maker_is_what_the_system_says(
    monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    told = f"processor\t: 0\nvendor_id\t: {vendor}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: told)
    assert cpu_kernels._made_by_amd() == (vendor == "AuthenticAMD")


@pytest.mark.parametrize("shape", [(5, 48), (197, 48), (3, 7, 48), (0, 48), (48,)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linear_equals_torch_and_still_learns(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(48, 80, bias=bias)
    pack(layer)
    values = torch.randn(*shape)
    expected = torch.nn.functional.linear(values, layer.weight, layer.bias)
    with torch.no_grad():
        assert torch.allclose(layer(values), expected, atol=1e-5)
    layer(values).sum().backward()
    assert layer.weight.grad is not None
    assert layer.state_dict().keys() == torch.nn.Linear(48, 80, bias=bias).state_dict().keys()


def test_linear_leaves_autocast_to_torch() -> None:
    layer, given = Linear(48, 80), torch.randn(3, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(given).dtype == torch.bfloat16


def test_dropout_drops_the_share_asked_for_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    ones = torch.ones(1000, 1001)
    found = dropout(ones, 0.1)
    share = (found == 0).float().mean().item()
    assert share == pytest.approx(0.1, abs=1e-3)  # three standard deviations
    assert found.mean().item() == pytest.approx(1, abs=1e-3)
    assert found.max().item() == pytest.approx(1 / 0.9, rel=1e-4)
    # No row, column or 16-bit place of a draw is favoured.
    for lane in range(4):
        lanes = (found.flatten()[lane::4] == 0).float().mean().item()
        assert lanes == pytest.approx(0.1, abs=2e-3)
    neighbours = (found[:, 1:] == 0) & (found[:, :-1] == 0)
    assert neighbours.float().mean().item() == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize("cut", [1, 6554, 65535])
def test_dropout_in_65536ths_is_exact_at_either_end(cut: int) -> None:
    """The rarest share there is on either side is 64 of four million, within five deviations."""
    torch.manual_seed(0)
    size = 1 << 22
    found = dropout(torch.ones(size), cut / 65536)
    dropped = int((found == 0).sum())
    expected = size * cut / 65536
    assert abs(dropped - expected) < 5 * (expected * (1 - cut / 65536)) ** 0.5
    assert found.max().item() == pytest.approx(65536 / (65536 - cut), rel=1e-6)


def test_dropout_of_a_tenth_is_rounded_to_the_nearest() -> None:
    assert dropout(torch.ones(1000), 0.1).max().item() == pytest.approx(65536 / 58982, rel=1e-7)


def test_dropout_of_everything_leaves_nothing() -> None:
    values = torch.ones(100, requires_grad=True)
    found = dropout(values, 1.0)
    found.sum().backward()
    assert values.grad is not None
    assert not found.any() and not values.grad.any()


def test_dropout_gradient_is_its_mask() -> None:
    values = torch.randn(7, 11, requires_grad=True)
    found = dropout(values, 0.5)
    found.backward(torch.full_like(found, 3.0))
    assert values.grad is not None
    assert torch.equal(values.grad, torch.where(found == 0, 0.0, 6.0))


def test_dropout_follows_the_seed_and_rests_in_evaluation() -> None:
    values, module = torch.randn(5, 5), Dropout(0.4)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(module(values))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert module.eval()(values) is values
    assert dropout(values, 0.0) is values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quick_gelu_equals_transformers(dtype: torch.dtype) -> None:
    tolerance = (
        {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    )
    own = torch.linspace(-12, 12, 401).to(dtype).requires_grad_()
    theirs = own.detach().clone().requires_grad_()
    found, expected = QuickGelu()(own), ACT2FN["quick_gelu"](theirs)
    assert torch.allclose(found, expected, **tolerance)
    found.sum().backward()
    expected.sum().backward()
    assert own.grad is not None and theirs.grad is not None
    assert torch.allclose(own.grad, theirs.grad, **tolerance)


def test_a_lightened_model_keeps_weights_loss_and_gradients() -> None:
    pixels, ids, labels = batch()
    results = []
    for light in (False, True):
        model = tiny_git(dropout=0.0).train()
        names = list(model.state_dict())
        if light:
            lighten(model)
            assert not any(type(m) is torch.nn.Linear for m in model.modules())
            assert sum(isinstance(m, QuickGelu) for m in model.modules()) == 2
            assert list(model.state_dict()) == names
        reference = model(
            input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels, labels=labels
        ).loss
        reference.backward()
        results.append((reference.item(), [p.grad for p in model.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for expected, found in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(expected, found, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_lightened_dropout_keeps_its_share_and_its_mode(training: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Dropout(0.7)).train(training)
    lighten(model)
    assert all(type(module) is Dropout for module in model)
    assert [module.p for module in model] == [0.2, 0.7]
    torch.manual_seed(0)
    shares = [(module(torch.ones(100_000)) == 0).float().mean().item() for module in model]
    assert shares == pytest.approx([0.2, 0.7] if training else [0, 0], abs=0.01)


def test_dropout_of_a_lightened_model_leaves_the_mean_loss_alone() -> None:
    """Masked attention and hidden dropout, seen over many draws, cost what transformers' cost."""
    pixels, ids, labels = batch()
    means = []
    for own in (False, True):
        model = tiny_git(dropout=0.1).train()
        torch.manual_seed(0)
        losses = []
        if own:
            lighten(model)
        with torch.no_grad():
            for _ in range(300):
                if own:
                    losses.append(
                        supervised_losses(model, seen(model, pixels), ids, labels)[0].mean()
                    )
                else:
                    losses.append(
                        model(
                            input_ids=ids, attention_mask=(ids != 0).long(),
                            pixel_values=pixels, labels=labels,
                        ).loss
                    )  # fmt: skip
        means.append(torch.stack(losses))
    spread = (means[0].std() / 300**0.5).item()
    assert abs(means[0].mean() - means[1].mean()).item() < 5 * spread
    assert means[1].std().item() == pytest.approx(means[0].std().item(), rel=0.25)


def test_output_may_be_changed_in_place() -> None:
    """As AdaLoRA does with what the adapted layer gives."""
    layer = Linear(4, 3)
    values = torch.randn(2, 5, 4, requires_grad=True)
    output = layer(values)
    output += 1.0
    output.sum().backward()
    expected = layer.weight.detach().sum(0).expand(2, 5, 4)
    assert values.grad is not None
    assert torch.allclose(values.grad, expected, atol=1e-6)


def tiny_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 50}
    no_dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout))


@pytest.mark.parametrize("onednn", [True, False])
def test_a_lightened_gpt2_keeps_weights_logits_and_gradients(
    monkeypatch: pytest.MonkeyPatch, onednn: bool
) -> None:
    monkeypatch.setattr(cpu_kernels, "_LEARNS_BY_ONEDNN", onednn and cpu_kernels._ONEDNN)
    ids, results = torch.arange(14).view(2, 7) * 3, []
    for light in (False, True):
        model = tiny_gpt2().train()
        names = list(model.state_dict())
        if light:
            lighten(model)
            layers = [m for m in model.modules() if isinstance(m, Conv1D)]
            assert len(layers) == 8 and not any(type(m) is Conv1D for m in layers)
            assert sum(isinstance(m, torch.nn.GELU) for m in model.modules()) == 2
            assert list(model.state_dict()) == names
            assert {m.kind for m in model_architecture(model).modules} >= {"Conv1D", "LayerNorm"}
        logits = model(ids).logits
        logits.pow(2).sum().backward()
        results.append((logits, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-4)
    for expected, found in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(expected, found, atol=1e-4, rtol=1e-3)


def test_a_packed_gpt2_writes_the_same_and_still_learns() -> None:
    ids, model = torch.arange(14).view(2, 7) * 3, tiny_gpt2().eval()
    with torch.no_grad():
        expected = model(ids).logits
        lighten(model)
        pack(model)
        if cpu_kernels._ONEDNN:
            assert model.transformer.h[0].mlp.c_fc.packed is not None
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    model(ids).logits.sum().backward()
    assert model.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0


def test_a_packed_model_is_halved_once_under_autocast() -> None:
    ids, model = torch.arange(14).view(2, 7) * 3, tiny_gpt2().eval()
    lighten(model)
    layer = model.transformer.h[0].mlp.c_fc
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            expected = model(ids).logits
        pack(model)
        learning = model(ids).logits
        assert layer.packed is None or layer.halved is None
        with torch.no_grad():
            assert torch.equal(model(ids).logits, expected)
            first = layer.halved
            model(ids)
    assert layer.halved is first and torch.equal(learning, expected)
    if cpu_kernels._ONEDNN:
        assert first.dtype == torch.bfloat16
    with torch.no_grad():
        assert model(ids).logits.dtype == torch.float32
