"""Batched sampling for a model so small that any serving engine would only add overhead.

The forward of a Llama written out, with caches of fixed size and every distinct prompt computed
once: half the time of the general one. Prompts of equal length go side by side, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, silu

CHUNK = 256
"""Completions sampled side by side: more do not fit a core's cache."""


@torch.inference_mode()
def sample(
    model: Any,
    prompts: Sequence[NDArray[np.int32]],
    *,
    max_tokens: int,
    temperature: float,
    end: int,
    generator: torch.Generator,
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """One completion for each prompt: token ids int32[T] with the end token, log-probs float32[T].

    `model` is a LlamaForCausalLM in float32 with as many key-value heads as heads.
    """
    results: list[tuple[NDArray[np.int32], NDArray[np.float32]] | None] = [None] * len(prompts)
    decoder = Decoder(model)
    for length in sorted({len(prompt) for prompt in prompts}):
        same = [n for n, prompt in enumerate(prompts) if len(prompt) == length]
        for first in range(0, len(same), CHUNK):
            rows = same[first : first + CHUNK]
            stacked = np.stack([prompts[n] for n in rows])
            ids, logprobs = _batch(decoder, stacked, max_tokens, temperature, end, generator)
            for row, tokens, values in zip(rows, ids, logprobs, strict=True):
                ended = np.flatnonzero(tokens == end)
                stop = int(ended[0]) + 1 if len(ended) else len(tokens)
                results[row] = (tokens[:stop].astype(np.int32), values[:stop])
    return [result for result in results if result is not None]


def _batch(
    decoder: Decoder,
    prompts: NDArray[np.int32],
    max_tokens: int,
    temperature: float,
    end: int,
    generator: torch.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    distinct, rows = np.unique(prompts, axis=0, return_inverse=True)
    cache = decoder.empty(len(distinct), prompts.shape[1])
    logits = decoder.forward(torch.from_numpy(distinct).long(), cache, 0)
    taken = torch.from_numpy(rows.reshape(-1))
    logits = logits[taken]
    cache = [
        tuple(widened(part[taken], max_tokens) for part in layer)  # keys, values
        for layer in cache
    ]
    done = torch.zeros(len(prompts), dtype=torch.bool)
    ids: list[Tensor] = []
    logprobs: list[Tensor] = []
    for place in range(prompts.shape[1], prompts.shape[1] + max_tokens):
        scores = (logits / temperature).log_softmax(-1)
        drawn = torch.multinomial(scores.exp(), 1, generator=generator)
        ids.append(drawn[:, 0])
        logprobs.append(scores.gather(-1, drawn)[:, 0])
        done |= drawn[:, 0] == end
        if bool(done.all()):
            break
        logits = decoder.forward(drawn, cache, place)
    return torch.stack(ids, 1).numpy(), torch.stack(logprobs, 1).numpy()


def widened(part: Tensor, room: int) -> Tensor:
    """[B, heads, L, D] with `room` more places."""
    return torch.cat([part, part.new_empty(*part.shape[:2], room, part.shape[3])], 2)


class Decoder:
    """The weights of a Llama as they are now, joined where one product does for several."""

    def __init__(self, model: Any) -> None:
        config, inner = model.config, model.model
        self.heads = config.num_attention_heads
        self.width = config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        self.embedding, self.norm = inner.embed_tokens.weight, inner.norm.weight
        self.head = model.lm_head.weight
        self.layers = [
            (
                layer.input_layernorm.weight,
                torch.cat([getattr(layer.self_attn, f"{n}_proj").weight for n in "qkv"]),
                layer.self_attn.o_proj.weight,
                layer.post_attention_layernorm.weight,
                torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                layer.mlp.down_proj.weight,
            )
            for layer in inner.layers
        ]
        places = torch.arange(config.max_position_embeddings).float()
        angles = places[:, None] * inner.rotary_emb.inv_freq[None]
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos(), angles.sin()

    def empty(self, rows: int, length: int) -> list[tuple[Tensor, ...]]:
        """Room for the keys and values of each layer, [B, heads, L, D] each."""
        shape = (rows, self.heads, length, self.width)
        return [(torch.empty(shape), torch.empty(shape)) for _ in self.layers]

    def forward(self, ids: Tensor, cache: list[tuple[Tensor, ...]], place: int) -> Tensor:
        """Logits [B, V] behind the last of `ids` [B, T], which stand at `place`; fills the cache."""
        count, length = ids.shape
        last = place + length
        cos, sin = self.cos[place:last], self.sin[place:last]
        hidden = self.embedding[ids]
        ahead = torch.ones(length, last, dtype=torch.bool).triu(place + 1)
        for (before, qkv, out, after, up, down), (keys, values) in zip(
            self.layers, cache, strict=True
        ):
            joined = linear(self._normed(hidden, before), qkv)
            split = joined.view(count, length, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            keys[:, :, place:last] = _turned(split[1], cos, sin)
            values[:, :, place:last] = split[2]
            scores = _turned(split[0], cos, sin) @ keys[:, :, :last].transpose(-1, -2)
            scores = scores / self.width**0.5
            if length > 1:
                scores = scores.masked_fill(ahead, -torch.inf)
            mixed = (scores.softmax(-1) @ values[:, :, :last]).transpose(1, 2)
            hidden = hidden + linear(mixed.reshape(count, length, -1), out)
            gate, wide = linear(self._normed(hidden, after), up).chunk(2, -1)
            hidden = hidden + linear(silu(gate) * wide, down)
        return linear(self._normed(hidden[:, -1], self.norm), self.head)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.epsilon) * weight


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[B, heads, T, D] turned by its places (rotary position embedding)."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin
