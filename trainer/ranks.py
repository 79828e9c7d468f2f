"""The workers that share a batch: who am I, how many are we, and the sum over all of us."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray


def rank() -> int:
    """This worker's number; 0 without torch.distributed."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Workers that share a batch; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def reduced(values: NDArray[Any]) -> NDArray[Any]:
    """The sum of `values` over all ranks, on every rank."""
    if world_size() == 1:
        return values
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.from_numpy(values.copy()).to(device)
    dist.all_reduce(tensor)
    return tensor.cpu().numpy()
