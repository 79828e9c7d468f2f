"""Log-probabilities of tokens without [tokens, vocabulary] logits.

Hidden states in, log-probs and entropies out: of the sampled tokens, of K candidates for each
place, or of the K likeliest. The vocabulary projection runs over chunks of tokens and is
computed again in the backward pass, so that at most one chunk of logits is alive at any
time. Knows nothing of models, sequences or losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 64 * 2**20
"""Bytes of one chunk of float32 logits."""


def chunk_tokens(vocabulary: int, budget: int = CHUNK_BYTES) -> int:
    """Tokens whose float32 logits fill `budget` bytes; at least one."""
    return max(1, budget // (4 * vocabulary))


def wide_dtype(values: Tensor) -> torch.dtype:
    """The type that logits are normalised in: float32, or float64 for a float64 model."""
    return torch.promote_types(values.dtype, torch.float32)


class _Chunks:
    """Logits of a few tokens at a time, in buffers that are used again for every chunk."""

    def __init__(self, head: Tensor, bias: Tensor | None, temperature: float, size: int) -> None:
        self.head, self.bias, self.temperature = head, bias, temperature
        self.raw = torch.empty(size, len(head), dtype=head.dtype, device=head.device)
        self.wide = torch.empty(size, len(head), dtype=wide_dtype(head), device=head.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """[tokens, V] in the wide type: hidden @ head.T / temperature; valid until the next call."""
        raw, wide = self.raw[: len(hidden)], self.wide[: len(hidden)]
        torch.mm(hidden, self.head.t(), out=raw)
        wide.copy_(raw)
        if self.bias is not None:
            wide.add_(self.bias)
        return wide if self.temperature == 1.0 else wide.div_(self.temperature)


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(hidden @ head.T / temperature)[targets], chunk by chunk, with the entropy and the
    k likeliest tokens of the distribution."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
        k: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = len(targets)
        logprobs = torch.empty(targets.shape, dtype=wide_dtype(head), device=hidden.device)
        normalisers = torch.empty(count, dtype=logprobs.dtype, device=hidden.device)
        entropies = torch.empty_like(normalisers)
        ids = torch.empty(count, k, dtype=torch.int64, device=hidden.device)
        best = torch.empty(count, k, dtype=logprobs.dtype, device=hidden.device)
        chunks = _Chunks(head, bias, temperature, min(chunk, count))
        exponentials = torch.empty_like(chunks.wide)
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            logits = chunks.logits(hidden[part])
            highest = logits.amax(-1, keepdim=True)
            logits.sub_(highest)
            chosen = logits.gather(-1, targets[part])
            if k:
                best[part], ids[part] = logits.topk(k, dim=-1)
            powers = torch.exp(logits, out=exponentials[: len(logits)])
            total = powers.sum(-1)
            logprobs[part] = chosen - total.log()[:, None]
            best[part] -= total.log()[:, None]
            entropies[part] = total.log() - powers.mul_(logits).sum(-1) / total
            normalisers[part] = highest.squeeze(-1) + total.log()
        ctx.save_for_backward(hidden, head, bias, targets, normalisers)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropies, ids, best)
        return logprobs, entropies, ids, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_logprobs: Tensor = grad_outputs[0]
        hidden, head, bias, targets, normalisers = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros_like(head, dtype=wide_dtype(head))
        product = torch.empty_like(head)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=wide_dtype(bias))
        chunks = _Chunks(head, bias, ctx.temperature, min(ctx.chunk, len(targets)))
        for start in range(0, len(targets), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = chunks.logits(hidden[part])
            slope = grad_logprobs[part] / ctx.temperature
            # d logprob / d logit = (one-hot - probability) / temperature
            grad_logits = logits.sub_(normalisers[part, None]).exp_().mul_(-slope.sum(-1, True))
            grad_logits.scatter_add_(-1, targets[part], slope)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            narrow = chunks.raw[: len(logits)].copy_(grad_logits)
            torch.mm(narrow, head, out=grad_hidden[part])
            grad_head += torch.mm(narrow.t(), hidden[part], out=product)
        return (
            grad_hidden,
            grad_head.to(head.dtype),
            None if grad_bias is None else grad_bias.to(hidden.dtype),
            None,
            None,
            None,
            None,
        )


@dataclass(frozen=True, slots=True)
class Distribution:
    """What else is known of the distribution at each of C places; for reading, no gradients.

    entropies     float32[C]     nats
    top_ids       int64[C, k]    the likeliest tokens, the likeliest first
    top_logprobs  float32[C, k]  and their log-probs
    """

    entropies: Tensor
    top_ids: Tensor
    top_logprobs: Tensor


def token_logprobs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    chunk: int | None = None,
    k: int = 0,
) -> tuple[Tensor, Distribution]:
    """Log-probs (nats) of the target tokens, float32 in the shape of `targets`, and what the
    same logits say of their distributions: entropies, and the k likeliest tokens.

    hidden   [C, H]  the state that predicts each place      targets  int64[C] or int64[C, K]
    head     [V, H]  the vocabulary projection               bias     [V] or None
    chunk            tokens whose logits exist at a time; by default 64 MiB of logits

    The distribution is softmax(hidden @ head.T / temperature), normalised in float32 (a
    float64 model's in float64). Gradients flow to hidden, head and bias through the log-probs.
    """
    size = chunk_tokens(len(head)) if chunk is None else chunk
    columns = targets if targets.ndim == 2 else targets[:, None]
    k = min(k, len(head))
    found = _TokenLogprobs.apply(hidden, head, bias, columns, temperature, size, k)
    logprobs, *others = found
    return (logprobs if targets.ndim == 2 else logprobs.squeeze(-1)), Distribution(*others)


@torch.no_grad()
def likeliest(
    hidden: Tensor,
    head: Tensor,
    k: int,
    *,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    chunk: int | None = None,
    vocabulary: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each distribution, int64[C, k], and their log-probs, float32[C, k].

    Arguments as in `token_logprobs`; `k` may exceed the vocabulary, which is then given
    whole. Only the first `vocabulary` tokens are chosen from (all by default): a model may
    pad its projection beyond the tokens there are. Without gradients.
    """
    size = chunk_tokens(len(head)) if chunk is None else chunk
    choice = len(head) if vocabulary is None else vocabulary
    width, count = min(k, choice), len(hidden)
    ids = torch.empty(count, width, dtype=torch.int64, device=hidden.device)
    logprobs = torch.empty(count, width, dtype=wide_dtype(head), device=hidden.device)
    chunks = _Chunks(head, bias, temperature, min(size, count))
    for start in range(0, count, size):
        part = slice(start, start + size)
        logits = chunks.logits(hidden[part])
        found = logits[:, :choice].topk(width, dim=-1)
        ids[part] = found.indices
        logprobs[part] = found.values - logits.logsumexp(-1, keepdim=True)
    return ids, logprobs
