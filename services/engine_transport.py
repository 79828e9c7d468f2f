"""The receiving end of a weight publication, inside vLLM's own process.

The rollout actor hands each bucket over through an anonymous memory file that vanishes with
its owner. Registered with vLLM's weight-transfer factory when the worker imports this module
(it is named as the worker's extension class), which also ties the process to its actor.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from services.weights import Entry, unpack

BACKEND = "strop_buckets"
PR_SET_PDEATHSIG = 1


@dataclass
class BucketInit(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class BucketUpdate(WeightTransferUpdateInfo):
    """One bucket: `path` of the memory file, its size, and the tensors within."""

    path: str = ""
    nbytes: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class BucketTransferEngine(WeightTransferEngine[BucketInit, BucketUpdate]):
    """Loads checkpoint-format tensors layer by layer into the running model."""

    init_info_cls = BucketInit
    update_info_cls = BucketUpdate

    def init_transfer_engine(self, init_info: BucketInit) -> None:
        """No rendezvous is needed."""

    def start_weight_update(self) -> None:
        """Prepare every layer to be replaced."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: BucketUpdate) -> None:
        """Copy one bucket and load its tensors.

        The copy matters: a layer that waits for tensors of a later bucket keeps views of
        this one, while the sender reuses the memory file.
        """
        with (
            open(update_info.path, "rb") as file,
            mmap.mmap(file.fileno(), update_info.nbytes, prot=mmap.PROT_READ) as mapped,
        ):
            bucket = torch.frombuffer(bytearray(mapped), dtype=torch.uint8)
        load_weights: Callable[..., object] = self.model.load_weights  # type: ignore[assignment]
        load_weights(unpack([Entry(**entry) for entry in update_info.entries], bucket))

    def finish_weight_update(self) -> None:
        """Finish every layer, and the tied output head that vLLM's reload leaves stale.

        The CPU linear kernels keep a packed copy of their weights. A head tied to the
        embedding receives no tensor of its own, so nothing would repack it.
        """
        finalize_layerwise_reload(self.model, self.model_config)
        for module in self.model.modules():
            if isinstance(module, ParallelLMHead) and self.device.type == "cpu":
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Nothing is held between updates."""


class WorkerExtension:
    """Named in the engine's arguments so that the worker process imports this module."""


def die_with_actor() -> None:
    """End this process when the rollout actor ends, however it does; vLLM's own does not."""
    actor = multiprocessing.parent_process()
    if actor is None:
        return  # loaded by the actor itself
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not actor.is_alive():
        os._exit(1)


WeightTransferEngineFactory.register_engine(BACKEND, BucketTransferEngine)
die_with_actor()
