"""Chunked log-probs equal the plain computation and never hold all logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.logprobs import chunk_tokens, token_logprobs


def naive(
    hidden: Tensor, head: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = (hidden @ head.t()).float() / temperature
    table = logits.log_softmax(-1)
    chosen = table.gather(-1, targets[:, None]).squeeze(-1)
    return chosen, -(table.exp() * table).sum(-1)


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 16, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(101, 16, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, 101, (37,), generator=generator)
    slopes = torch.randn(37, generator=generator)
    return hidden, head, targets, slopes


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("chunk", [1, 7, 37, 1000])
def test_chunks_give_the_naive_log_probs_entropies_and_gradients(
    temperature: float, chunk: int
) -> None:
    hidden, head, targets, slopes = inputs(torch.float32)
    expected, entropy = naive(hidden, head, targets, temperature)
    expected_grads = torch.autograd.grad((expected * slopes).sum(), [hidden, head])
    found, distribution = token_logprobs(
        hidden, head, targets, temperature=temperature, chunk=chunk, k=4
    )
    grads = torch.autograd.grad((found * slopes).sum(), [hidden, head])
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(distribution.entropies, entropy, atol=1e-5)
    table = ((hidden @ head.t()) / temperature).log_softmax(-1)
    best = table.topk(4)
    assert torch.equal(distribution.top_ids, best.indices)
    assert torch.allclose(distribution.top_logprobs, best.values, atol=1e-5)
    for mine, theirs in zip(grads, expected_grads, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_bfloat16_is_normalised_in_float32() -> None:
    hidden, head, targets, slopes = inputs(torch.bfloat16)
    expected, _ = naive(hidden, head, targets, 0.6)
    found, _ = token_logprobs(hidden, head, targets, temperature=0.6, chunk=10)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-4)
    grads = torch.autograd.grad((found * slopes).sum(), [hidden, head])
    exact = torch.autograd.grad((expected * slopes).sum(), [hidden, head])
    for mine, theirs in zip(grads, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine - theirs).float().norm() < 0.02 * theirs.float().norm()


def test_a_bias_shifts_the_logits_and_gets_a_gradient() -> None:
    hidden, head, targets, slopes = inputs(torch.float32)
    bias = torch.linspace(-1, 1, 101).requires_grad_()
    table = ((hidden @ head.t() + bias) / 0.7).log_softmax(-1)
    expected = table.gather(-1, targets[:, None]).squeeze(-1)
    found, _ = token_logprobs(hidden, head, targets, temperature=0.7, bias=bias, chunk=5)
    assert torch.allclose(found, expected, atol=1e-5)
    (mine,) = torch.autograd.grad((found * slopes).sum(), [bias])
    (theirs,) = torch.autograd.grad((expected * slopes).sum(), [bias])
    assert torch.allclose(mine, theirs, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements of any tensor an operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def test_no_tensor_ever_holds_the_logits_of_all_tokens() -> None:
    tokens, width, vocabulary, chunk = 512, 8, 1000, 16
    hidden = torch.randn(tokens, width, requires_grad=True)
    head = torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(0, vocabulary, (tokens,))
    with LargestTensor() as seen:
        logprobs, _ = token_logprobs(hidden, head, targets, chunk=chunk)
        logprobs.sum().backward()
    assert hidden.grad is not None
    assert seen.largest == max(chunk * vocabulary, vocabulary * width)


def test_the_default_chunk_follows_from_the_vocabulary() -> None:
    assert chunk_tokens(49152) * 49152 * 4 <= 64 * 2**20
    assert chunk_tokens(10**9) == 1


def test_asking_for_the_likeliest_tokens_changes_no_bit_of_the_rest() -> None:
    hidden, head, targets, slopes = inputs(torch.bfloat16)
    plain, without = token_logprobs(hidden, head, targets, chunk=10)
    asked, with_them = token_logprobs(hidden, head, targets, chunk=10, k=500)
    assert torch.equal(plain, asked)
    assert torch.equal(without.entropies, with_them.entropies)
    assert (without.top_ids.shape, with_them.top_ids.shape) == ((37, 0), (37, 101))
    for a, b in zip(
        torch.autograd.grad((plain * slopes).sum(), [hidden, head]),
        torch.autograd.grad((asked * slopes).sum(), [hidden, head]),
        strict=True,
    ):
        assert torch.equal(a, b)
