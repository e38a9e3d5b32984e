"""The forward pass of GIT (Wang et al. 2022) without what a step does not need.

In GIT image tokens attend to one another and never to text, text attends to the image and
causally to itself. So the decoder is run here as two streams through transformers' own modules
(PEFT's adapters in them included): the image stream once, without a mask, and the text stream
against the keys and values it leaves. What follows from that, all exact:

- the last layer computes no outputs for the image tokens, since nothing reads them;
- the vocabulary head sees supervised positions only;
- several texts for one image, and every generated token, reuse the image's keys and values.

Shapes: B images or texts, N image tokens, T text tokens, D hidden size, H heads.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from peft_ablation.bases.causal import own_reference, told_losses
from peft_ablation.bases.cpu_kernels import dropout, lighten
from peft_ablation.bases.pixels import Normalize

IGNORED = -100
"""Label of a position that is not supervised, as in torch and transformers."""

LayerCache = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, H, tokens, D / H)."""


def git_of(model: Any) -> Any:
    """Return the `GitForCausalLM` inside a possibly PEFT-wrapped model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def lightened(model: Any) -> Any:
    """Return `model` itself with faster kernels for the CPU and fused vision attention."""
    lighten(model)
    git_of(model).config.vision_config._attn_implementation = "sdpa"
    return model


def encode_image(model: Any, pixels: Tensor) -> Tensor:
    """Return the projected image tokens (B, N, D) of normalised `pixels` (B, 3, H, W)."""
    git = git_of(model).git
    features = git.image_encoder(pixels).last_hidden_state
    projected: Tensor = git.visual_projection(features)
    return projected


def _attention(layer: Any) -> Any:
    return layer.attention.self


def _split(hidden: Tensor, heads: int) -> Tensor:
    return hidden.view(*hidden.shape[:-1], heads, -1).transpose(1, 2)


def _keys_values(layer: Any, hidden: Tensor) -> LayerCache:
    attention = _attention(layer)
    heads = attention.num_attention_heads
    return _split(attention.key(hidden), heads), _split(attention.value(hidden), heads)


def _layer_output(layer: Any, hidden: Tensor, cache: LayerCache, mask: Tensor | None) -> Tensor:
    """Run one decoder layer for the queries `hidden` against given keys and values.

    With gradient checkpointing all but the keys and values is computed again.
    """
    if not (layer.training and layer.gradient_checkpointing):
        return _run_layer(layer, hidden, cache, mask)
    output: Tensor = checkpoint(_run_layer, layer, hidden, cache, mask, use_reentrant=False)
    return output


def _run_layer(layer: Any, hidden: Tensor, cache: LayerCache, mask: Tensor | None) -> Tensor:
    attention = _attention(layer)
    query = _split(attention.query(hidden), attention.num_attention_heads)
    context = _attend(query, *cache, mask, attention.dropout.p if layer.training else 0.0)
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), hidden)
    output: Tensor = layer.feed_forward_chunk(attended)
    return output


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, probability: float
) -> Tensor:
    """Scaled dot product attention, its weights dropped with `probability`."""
    if not probability or query.device.type != "cpu":
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=probability
        )
    # torch has no fused kernel with dropout on the CPU, and what it does instead is slower.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return dropout(scores.softmax(-1), probability) @ value


def image_stream(model: Any, image: Tensor) -> Iterator[LayerCache]:
    """Yield each decoder layer's keys and values of the image tokens `image` (B, N, D).

    As a list it serves all that is asked of the same images: losses of texts, and generation.
    """
    layers = git_of(model).git.encoder.layer
    hidden = image
    for index, layer in enumerate(layers):
        cache = _keys_values(layer, hidden)
        yield cache
        if index + 1 < len(layers):
            hidden = _layer_output(layer, hidden, cache, None)


def text_hidden(
    model: Any,
    images: Iterable[LayerCache],
    input_ids: Tensor,
    position_ids: Tensor | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """Return the decoder's output (B * k, T, D) at the text positions.

    `images` is the `image_stream` of B images, `input_ids` (B * k, T) int64, k texts for each
    image in turn, padded on the right: padding comes after every real token, so the causal mask
    alone keeps it from being read. `position_ids` (B * k, T) and `seen` (B * k, 1, T, T) bool, what
    each token attends to, are told where a row is not one text.
    """
    git = git_of(model).git
    hidden: Tensor = git.embeddings(input_ids, position_ids=position_ids)
    mask = None
    for layer, keys_values in zip(git.encoder.layer, images, strict=True):
        image_key, image_value = _for_each_text(keys_values, len(input_ids))
        key, value = _keys_values(layer, hidden)
        cache = torch.cat((image_key, key), dim=2), torch.cat((image_value, value), dim=2)
        if mask is None:
            tokens, total = input_ids.shape[1], cache[0].shape[2]
            mask = torch.ones(tokens, total, dtype=torch.bool, device=input_ids.device)
            mask = mask.tril(total - tokens)
            if seen is not None:
                of_image = seen.new_ones(*seen.shape[:3], total - tokens)
                mask = torch.cat((of_image, seen), dim=-1)
        hidden = _layer_output(layer, hidden, cache, mask)
    return hidden


def _for_each_text(of_image: LayerCache, texts: int) -> LayerCache:
    key, value = of_image
    each = texts // len(key)
    if each == 1:
        return of_image
    return key.repeat_interleave(each, 0), value.repeat_interleave(each, 0)


def supervised_losses(
    model: Any, images: Iterable[LayerCache], input_ids: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of every supervised token, in nats (float32, 1-d), and its row.

    `images` and `input_ids` are those of `text_hidden`; `labels` (B * k, T) are `input_ids` with
    `IGNORED` on prompt and padding; they are shifted here, once. The mean equals the loss of
    `GitForCausalLM(labels=…)` of transformers >= 5.15 (releases 4.48.3 to 5.14 shift twice,
    huggingface/transformers#47394).
    """
    hidden = text_hidden(model, images, input_ids)[:, :-1]
    targets = labels[:, 1:]
    keep = targets != IGNORED
    logits = git_of(model).output(hidden[keep])
    losses = functional.cross_entropy(logits.float(), targets[keep], reduction="none")
    return losses, keep.nonzero()[:, 0]


@torch.no_grad()
def text_losses(
    model: Any, images: Iterable[LayerCache], input_ids: Tensor, labels: Tensor
) -> Tensor:
    """Return each text's summed negative log-likelihood given its image, in nats (float64, B * k).

    Arguments are those of `supervised_losses`.
    """
    losses, rows = supervised_losses(model, images, input_ids, labels)
    sums = torch.zeros(len(input_ids), dtype=torch.float64, device=losses.device)
    return sums.index_add_(0, rows, losses.double())


def reference_losses(
    model: Any, images: Iterable[LayerCache], batch: Mapping[str, Tensor]
) -> Tensor:
    """Return the loss of each supervised token, (number of them,), in nats, row by row.

    `images` is the `image_stream` of B images, or of one for all, and `batch` what
    `causal.token_losses` takes: several texts of an image are one row.
    """
    seen = own_reference(batch["reference"]) if "reference" in batch else None
    hidden = text_hidden(model, images, batch["input_ids"], batch.get("position_ids"), seen)
    return told_losses(hidden, batch, git_of(model).output)


class SupervisedLoss(nn.Module):
    """Sum of the token losses of a batch; the module that data-parallel training wraps."""

    def __init__(self, model: nn.Module, normalize: Normalize) -> None:
        """Wrap a (PEFT) GIT model and its pixel normalisation."""
        super().__init__()
        self.model = lightened(model)
        self.normalize = normalize

    def forward(self, image: Tensor, **texts: Tensor) -> Tensor:
        """Return the summed loss; `image` is uint8 pixels (B, H, W[, 3]) or features (B, N, D).

        `texts` are `input_ids` and `labels` as `supervised_losses` takes them, or what
        `reference_losses` takes.
        """
        tokens = image_tokens(self.model, self.normalize, image)
        stream = image_stream(self.model, tokens)
        if "labels" not in texts:
            return reference_losses(self.model, stream, texts).sum()
        losses, _ = supervised_losses(self.model, stream, texts["input_ids"], texts["labels"])
        return losses.sum()


def image_tokens(model: Any, normalize: Normalize, image: Tensor) -> Tensor:
    """Return image tokens (B, N, D) of uint8 pixels (B, H, W), or cached tokens as they are."""
    if image.dtype == torch.uint8:
        return encode_image(model, normalize(image))
    return image.to(git_of(model).output.weight.dtype)


@dataclass(frozen=True)
class Generated:
    """What greedy decoding made of one prompt."""

    tokens: list[int]
    """Generated token ids, without the prompt and without the closing [SEP]."""
    finished: bool
    """False where `max_new_tokens` cut it."""


class _TextCache:
    """Keys and values of all decoder layers, with room for the tokens still to come."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.layers: list[LayerCache] = []

    def start(self, of_image: LayerCache) -> None:
        """Open the next layer with the image's keys and values."""
        buffers = []
        for part in of_image:
            rows, heads, tokens, width = part.shape
            buffer = part.new_empty(rows, heads, tokens + self.room, width)
            buffer[:, :, :tokens] = part
            buffers.append(buffer)
        self.layers.append((buffers[0], buffers[1]))

    def extended(self, layer: int, begin: int, new: LayerCache) -> LayerCache:
        """Write `new` at `begin` and return everything up to its end."""
        end = begin + new[0].shape[2]
        key, value = self.layers[layer]
        key[:, :, begin:end] = new[0]
        value[:, :, begin:end] = new[1]
        return key[:, :, :end], value[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but `rows`."""
        self.layers = [(key[rows], value[rows]) for key, value in self.layers]


@torch.no_grad()
def generate_greedy(
    model: Any,
    images: Iterable[LayerCache],
    prompts: list[list[int]],
    *,
    end_token: int,
    max_new_tokens: int,
) -> list[Generated]:
    """Return the greedy continuation of each prompt: the tokens of `model.generate`.

    `images` is the `image_stream` of B images, `prompts` are B * k lists of token ids, k prompts
    for each image in turn; prompts of different lengths are padded on the left. Rows leave the
    batch as they finish.
    """
    git_model = git_of(model)
    git, head = git_model.git, git_model.output
    longest = max(map(len, prompts))
    cache = _TextCache(longest + max_new_tokens)
    for of_image in images:
        cache.start(_for_each_text(of_image, len(prompts)))
    device, image_length = of_image[0].device, of_image[0].shape[2]
    padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=device)

    def visible(queries: int, total: int) -> Tensor | None:
        """Mask (rows, 1, queries, N + total): all of the image, own real tokens so far."""
        if queries == 1 and not bool(padding.any()):
            return None
        keys = torch.arange(total, device=device)
        causal = keys[None, :] <= keys[total - queries :, None]
        text = causal[None] & (keys >= padding[:, None])[:, None]
        of_image = text.new_ones(len(padding), queries, image_length)
        return torch.cat((of_image, text), dim=2).unsqueeze(1)

    def step(tokens: Tensor, total: int) -> Tensor:
        """Run `tokens` (rows, queries), the last of `total`; return the next token (rows,)."""
        queries = tokens.shape[1]
        places = torch.arange(total - queries, total, device=device)
        positions = (places[None] - padding[:, None]).clamp(min=0)
        mask = visible(queries, total)
        hidden = git.embeddings(tokens, position_ids=positions)
        for index, layer in enumerate(git.encoder.layer):
            new = _keys_values(layer, hidden)
            seen = cache.extended(index, image_length + total - queries, new)
            hidden = _layer_output(layer, hidden, seen, mask)
        following: Tensor = head(hidden[:, -1]).argmax(-1)
        return following

    texts: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    rows = list(range(len(prompts)))
    token = step(ids, longest)
    for total in range(longest + 1, longest + max_new_tokens + 1):
        for row, value in zip(rows, token.tolist(), strict=True):
            if value == end_token:
                finished[row] = True
            elif not finished[row]:
                texts[row].append(value)
        live = [index for index, row in enumerate(rows) if not finished[row]]
        if not live or total == longest + max_new_tokens:
            break
        # Copying the cache costs about a step: worth it once an eighth of the rows is done.
        if 8 * (len(rows) - len(live)) >= len(rows):
            kept = torch.tensor(live, device=device)
            rows = [rows[index] for index in live]
            token, padding = token[kept], padding[kept]
            cache.keep(kept)
        token = step(token[:, None], total)
    return [Generated(text, done) for text, done in zip(texts, finished, strict=True)]
