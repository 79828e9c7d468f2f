"""Float32 masters: what the optimizer sees of a policy that computes in fewer bits.

Each gradient is added to its master's as soon as the backward pass has made it, in float32,
and the low-precision one is freed at once. A policy of full precision is its own master.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from trainer.policy import Policy


class Masters:
    """Float32 weights and gradients of a trainable policy; afterwards it computes in its dtype."""

    def __init__(self, policy: Policy) -> None:
        self._parameters = dict(policy.module.named_parameters())
        self.weights: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            if policy.dtype == parameter.dtype:
                self.weights[name] = parameter
            else:
                self.weights[name] = parameter.detach().clone()
                # The parameter alone: rotary frequencies are buffers and stay float32.
                parameter.data = parameter.data.to(policy.dtype)
                parameter.register_post_accumulate_grad_hook(self._collector(self.weights[name]))
        self.clear_gradients()

    @staticmethod
    def _collector(master: Tensor):
        def collect(parameter: Tensor) -> None:
            assert master.grad is not None
            assert parameter.grad is not None
            master.grad.add_(parameter.grad)
            parameter.grad = None

        return collect

    @property
    def gradients(self) -> list[Tensor]:
        """The accumulated float32 gradients, in the order of the weights."""
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    def clear_gradients(self) -> None:
        """Set every gradient to zero; a weight that no token reaches keeps a zero gradient."""
        for weight in self.weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            else:
                weight.grad.zero_()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the weights that the policy computes with."""
        for name, parameter in self._parameters.items():
            if not self._is_own(name):
                parameter.copy_(self.weights[name])

    @contextmanager
    def replaced(self, weights: Mapping[str, Tensor]) -> Generator[None]:
        """Within the block the policy computes with these weights, all of them; then with the
        masters' again, bit for bit."""
        own = {
            name: weight.detach().to("cpu", copy=True)
            for name, weight in self.weights.items()
            if self._is_own(name)
        }
        try:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(weights[name])
            yield
        finally:
            with torch.no_grad():
                for name, weight in own.items():
                    self._parameters[name].copy_(weight)
            self.publish()

    def _is_own(self, name: str) -> bool:
        """Whether the policy computes with the master itself."""
        return self._parameters[name] is self.weights[name]

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Take these float32 weights, all of them, and publish them. Raises KeyError."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])
        self.publish()
