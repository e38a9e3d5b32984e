"""The own forward pass of GIT against transformers'."""

import pytest
import torch
from transformers import GitConfig, GitForCausalLM

from peft_ablation.bases.git import (
    IGNORED,
    Normalize,
    SupervisedLoss,
    encode_image,
    generate_greedy,
    image_stream,
    lightened,
    supervised_losses,
    text_losses,
)

END = 3
VOCABULARY = 40


def tiny_git(seed: int = 0, dropout: float = 0.0) -> GitForCausalLM:
    torch.manual_seed(seed)
    config = GitConfig(
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "image_size": 16, "patch_size": 8,
        },
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        bos_token_id=2, eos_token_id=END, pad_token_id=0,
    )  # fmt: skip
    return GitForCausalLM(config)


def batch(rows: int = 5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels, right-padded ids and labels with prompt and padding ignored."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(rows, 3, 16, 16, generator=generator)
    ids = torch.randint(4, VOCABULARY, (rows, 12), generator=generator)
    labels = ids.clone()
    for row in range(rows):
        length = 12 - 2 * row
        ids[row, length:] = 0
        labels[row, length:] = IGNORED
    labels[:, :3] = IGNORED
    return pixels, ids, labels


def seen(model: GitForCausalLM, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the decoder's layers keep of the images."""
    return list(image_stream(model, encode_image(model, pixels)))


def test_loss_equals_transformers() -> None:
    model = tiny_git().eval()
    pixels, ids, labels = batch()
    reference = model(
        input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels, labels=labels
    ).loss
    own, rows = supervised_losses(model, seen(model, pixels), ids, labels)
    assert own.mean().item() == pytest.approx(reference.item(), abs=1e-5)
    # Five rows of 12, 10, 8, 6, 4 tokens, of which the first three are prompt.
    assert torch.bincount(rows).tolist() == [9, 7, 5, 3, 1]


def test_gradients_equal_transformers() -> None:
    pixels, ids, labels = batch()
    reference, own = tiny_git().train(), tiny_git().train()
    reference(
        input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels, labels=labels
    ).loss.backward()
    losses, _ = supervised_losses(own, seen(own, pixels), ids, labels)
    losses.mean().backward()
    for (name, expected), (_, found) in zip(
        reference.named_parameters(), own.named_parameters(), strict=True
    ):
        assert expected.grad is not None and found.grad is not None, name
        assert torch.allclose(expected.grad, found.grad, atol=1e-6, rtol=1e-4), name


def test_autocast_to_bfloat16_changes_the_loss_little() -> None:
    pixels, ids, labels = batch()
    model = lightened(tiny_git().eval())
    exact, _ = supervised_losses(model, seen(model, pixels), ids, labels)
    with torch.autocast("cpu", torch.bfloat16):
        reference = model(
            input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixels, labels=labels
        ).loss
        rounded, _ = supervised_losses(model, seen(model, pixels), ids, labels)
    assert rounded.dtype == torch.float32
    # bf16 keeps 8 bits: within 1 % of fp32, and as close to it as transformers under autocast.
    assert rounded.mean().item() == pytest.approx(exact.mean().item(), rel=1e-2)
    assert rounded.mean().item() == pytest.approx(reference.item(), rel=1e-2)


def test_double_shift_of_affected_releases_differs() -> None:
    model = tiny_git().eval()
    pixels, ids, labels = batch()
    own, _ = supervised_losses(model, seen(model, pixels), ids, labels)
    shifted = torch.full_like(labels, IGNORED)
    shifted[:, :-1] = labels[:, 1:]
    twice, _ = supervised_losses(model, seen(model, pixels), ids, shifted)
    assert abs(own.mean().item() - twice.mean().item()) > 1e-3


def test_summed_loss_module_normalises_grey_pixels() -> None:
    model = tiny_git().eval()
    grey = torch.randint(0, 256, (5, 16, 16), dtype=torch.uint8)
    _, ids, labels = batch()
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.27, 0.28)
    rgb = grey[:, None].repeat(1, 3, 1, 1).float() / 255
    pixels = (rgb - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    losses, _ = supervised_losses(model, seen(model, pixels), ids, labels)
    summed = SupervisedLoss(model, Normalize(mean, std))(grey, input_ids=ids, labels=labels)
    assert summed.item() == pytest.approx(losses.sum().item(), rel=1e-5)


def test_cached_features_in_half_precision_change_the_loss_little() -> None:
    model = tiny_git().eval()
    grey = torch.randint(0, 256, (5, 16, 16), dtype=torch.uint8)
    _, ids, labels = batch()
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    module = SupervisedLoss(model, normalize)
    features = encode_image(model, normalize(grey)).half()
    assert module(features, input_ids=ids, labels=labels).item() == pytest.approx(
        module(grey, input_ids=ids, labels=labels).item(), rel=1e-3
    )


def test_greedy_tokens_equal_generate() -> None:
    for seed in range(6):
        model = tiny_git(seed).eval()
        with torch.no_grad():
            model.output.bias[END] += 1.5  # so that rows finish at different steps
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randn(8, 3, 16, 16, generator=generator)
        ids = torch.randint(4, VOCABULARY, (8, 4), generator=generator)
        reference = model.generate(
            pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids),
            max_new_tokens=15, do_sample=False, eos_token_id=END, pad_token_id=0,
        )  # fmt: skip
        own = generate_greedy(
            model, seen(model, pixels), ids.tolist(), end_token=END, max_new_tokens=15
        )
        for row, text in zip(reference[:, 4:].tolist(), own, strict=True):
            ended = END in row
            assert text.finished == ended
            assert text.tokens == (row[: row.index(END)] if ended else row)


def test_padded_prompts_give_what_each_gives_alone() -> None:
    model = tiny_git(3).eval()
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    prompts = [[2, 7], [2, 9, 11, 5, 6], [2, 30, 31]]
    together = generate_greedy(
        model, seen(model, pixels), prompts, end_token=END, max_new_tokens=10
    )
    for row, prompt in enumerate(prompts):
        alone = generate_greedy(
            model, seen(model, pixels[row : row + 1]), [prompt], end_token=END, max_new_tokens=10
        )
        assert together[row] == alone[0]


def test_candidates_of_one_image_share_its_prefix() -> None:
    model = tiny_git(4).eval()
    pixels, ids, labels = batch(4)
    images = seen(model, pixels[:2])
    repeated = seen(model, pixels[:2].repeat_interleave(2, 0))
    shared = text_losses(model, images, ids, labels)
    apart = text_losses(model, repeated, ids, labels)
    assert torch.allclose(shared, apart, atol=1e-5)
    prompts = [[2, 7, 9], [2, 8], [2, 7, 9], [2, 8]]
    several = generate_greedy(model, images, prompts, end_token=END, max_new_tokens=6)
    assert several == generate_greedy(model, repeated, prompts, end_token=END, max_new_tokens=6)
