"""The optimizer: AdamW on full-precision masters, its schedule, its guard and its state.

Takes the gradients that backward passes left in the masters and makes one update of them,
or refuses: an update that is not finite, or whose gradient exploded, is not made. Knows
nothing of losses or batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.masters import Masters
from trainer.ranks import reduced, world_size
from trainer.spec import OptimizerSpec

EXPLODED = 1e4
"""Multiple of max_grad_norm beyond which a gradient is taken for a fault, not for a lesson."""


class LearningError(RuntimeError):
    """An update that would ruin the weights, or a saved state of another model."""


class AdamW:
    """Decoupled weight decay, warm-up, a clipped gradient norm."""

    def __init__(self, masters: Masters, spec: OptimizerSpec) -> None:
        self.masters, self.spec = masters, spec
        weights = masters.weights.values()
        groups = [
            # Norms and biases are not decayed: pulling them to zero is no prior.
            {"params": [w for w in weights if w.ndim >= 2], "weight_decay": spec.weight_decay},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=spec.learning_rate,
            betas=spec.betas,
            fused=True,
        )

    def warm_up(self, step: int) -> float:
        """Set and return the learning rate of `step` (from 0)."""
        warm = self.spec.warmup_steps
        rate = self.spec.learning_rate * (min(1.0, (step + 1) / warm) if warm else 1.0)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        return rate

    def update(self, step: int, loss: float) -> float:
        """One update from the gradients of all ranks, which are cleared; returns their norm.

        `loss` is this rank's share. Raises LearningError, and leaves the weights as they were,
        when loss or norm is not finite or the norm exploded.
        """
        gradients = self.masters.gradients
        if world_size() > 1:
            for gradient in gradients:
                dist.all_reduce(gradient)
        norm = torch.nn.utils.get_total_norm(gradients)
        total, size = reduced(np.array([loss])).item(), norm.item()
        limit = EXPLODED * self.spec.max_grad_norm
        if not (np.isfinite(total) and size <= limit):
            self.masters.clear_gradients()
            raise LearningError(
                f"step {step}: the loss is {total} and the gradient norm {size}; the update was not "
                f"made: both must be finite and the norm at most {limit:g} ({EXPLODED:g} times "
                "optimizer.max_grad_norm). A lower optimizer.learning_rate, or model.dtype "
                "float32, may help"
            )
        torch.nn.utils.clip_grads_with_norm_(
            self.masters.weights.values(), self.spec.max_grad_norm, norm
        )
        self._adamw.step()
        self.masters.publish()
        self.masters.clear_gradients()
        return size

    def state(self) -> tuple[dict[str, Tensor], int]:
        """Masters and moments by name, and how many updates made them."""
        tensors: dict[str, Tensor] = {}
        updates = 0
        for name, weight in self.masters.weights.items():
            tensors[f"master.{name}"] = weight.detach()
            moments = self._adamw.state[weight]
            if moments:
                tensors[f"exp_avg.{name}"] = moments["exp_avg"]
                tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
                updates = int(moments["step"].item())
        return tensors, updates

    def restore(self, tensors: dict[str, Tensor], updates: Any) -> None:
        """Continue from what `state` returned. Raises LearningError when it is of another model."""
        wanted = {name: f"master.{name}" for name in self.masters.weights}
        wrong = [
            name
            for name, key in wanted.items()
            if key not in tensors or tensors[key].shape != self.masters.weights[name].shape
        ]
        if wrong:
            raise LearningError(
                f"the saved state does not belong to this model: {len(wrong)} weight(s) differ, "
                f"e.g. {wrong[0]}"
            )
        self.masters.restore({name: tensors[key] for name, key in wanted.items()})
        self._adamw.state.clear()
        for name, weight in self.masters.weights.items():
            if f"exp_avg.{name}" in tensors:
                self._adamw.state[weight] = {
                    "step": torch.tensor(float(updates), device=weight.device),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(weight.device, copy=True),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(weight.device, copy=True),
                }
