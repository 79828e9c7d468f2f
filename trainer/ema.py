"""A teacher whose weights are a moving average of the policy's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor


class WeightAverage:
    """Kept in float32, on the CPU: a small share of a small change is lost in fewer bits."""

    def __init__(self, rate: float) -> None:
        """`rate` is the newest weights' share, in (0, 1)."""
        self._rate = rate
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def blend(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Take in the newest weights and give the average of all so far, by name.

        average = (1 - rate) * average + rate * weights,  from the first weights on
        """
        for name, weight in weights:
            newest = weight.to("cpu", torch.float32)
            if name in self._average:
                self._average[name].lerp_(newest, self._rate)
            else:
                self._average[name] = newest.clone()
            yield name, self._average[name]

    def state(self) -> dict[str, Tensor]:
        """The average of all weights so far, by name."""
        return dict(self._average)

    def restore(self, average: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        self._average = {name: weight.to(torch.float32) for name, weight in average.items()}
