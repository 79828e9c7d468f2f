"""The rollout tier: one vLLM engine in an actor, with many groups in flight.

In: prompts as token ids, weight publications. Out: `Rollout` records that carry the sampled
tokens' log-probs and the policy version. An engine is stale until it has proven that it runs
the published weights, and a stale engine samples nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from services.replicas import ActorLost, Beat
from services.weights import Manifest, StaleWeights
from trainer.records import FinishReason, Rollout

CPU_BLOCK_TOKENS = 32  # of the KV cache; vLLM's CPU attention wants a multiple of 32
_ENGINE_DIED = "the process of its engine core died"
# Mean absolute log-prob gap (nats) on the canary that still counts as the same weights.
CANARY_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15}


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How one engine is built. `seed` differs by replica."""

    model_path: str
    dtype: str
    max_length: int
    max_sequences: int
    seed: int
    kv_cache_gib: float
    gpu_memory_utilization: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How completions are drawn."""

    max_tokens: int
    temperature: float
    top_p: float = 1.0


def engine_arguments(options: EngineOptions) -> dict[str, Any]:
    """vLLM's engine arguments, but for the transfer of weights."""
    arguments: dict[str, Any] = {
        "model": options.model_path,
        "dtype": options.dtype,
        "max_model_len": options.max_length,
        "max_num_seqs": options.max_sequences,
        "seed": options.seed,
        "enforce_eager": options.gpus == 0,
        "distributed_executor_backend": "uni",
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "trust_remote_code": False,
    }
    if options.gpus:
        arguments["gpu_memory_utilization"] = options.gpu_memory_utilization
    else:
        arguments["kv_cache_memory_bytes"] = int(options.kv_cache_gib * (1 << 30))
        # A group's prompt is computed once only in whole blocks, and the CPU's default block
        # of 128 tokens shares nothing of a short prompt.
        arguments["block_size"] = CPU_BLOCK_TOKENS
    return arguments


class RolloutEngine:
    """One vLLM engine. Every method is a coroutine; many may run at once."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._version: int | None = None
        self._requests = 0
        self._loading = asyncio.Lock()
        self._arrived = 0

    async def start(self) -> dict[str, float]:
        """Build the engine and load the model. Returns its load time in seconds."""
        started = time.monotonic()
        options = self._options
        # The model lives in the engine core's process: a third one would only add hand-overs.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if not options.gpus:
            # The sampler's own small compiled functions cost seconds to build and gain nothing.
            os.environ["TORCHDYNAMO_DISABLE"] = "1"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "1")
        from transformers import AutoTokenizer
        from vllm.config import WeightTransferConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

        from services.engine_progress import Iterations

        arguments = engine_arguments(options) | {
            "worker_extension_cls": "services.engine_transport.WorkerExtension",
            "weight_transfer_config": WeightTransferConfig(backend="strop_buckets"),
        }
        self._iterations = Iterations()
        loggers: list[Any] = [self._iterations]
        if ray.is_initialized():
            loggers.append(RayPrometheusStatLogger)
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), stat_loggers=loggers)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            options.model_path, trust_remote_code=False
        )
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._engine.init_weight_transfer_engine(WeightTransferInitRequest())
        return {"load_seconds": time.monotonic() - started}

    async def beat(self) -> Beat:
        """That it lives, and how far it is: iterations of the engine and buckets of weights.

        Raises ActorLost when the engine's own process does not live.
        """
        if self._engine.errored:
            raise ActorLost(_ENGINE_DIED)
        progress = self._iterations.count + self._arrived
        return Beat(progress, os.getpid(), ray.get_runtime_context().get_node_id())

    async def load_weights(self, manifest: Manifest, buckets: Sequence[Any]) -> dict[str, float]:
        """Replace the weights of the running engine and prove that they arrived.

        `buckets` are arrays, or Ray references to them, in the order of the manifest.
        Generation is paused, not aborted: what is in flight is read again and finished under
        the new weights. Raises StaleWeights, and stays stale, when the proof fails.
        """
        started = time.monotonic()
        # All of them first: what is lost on its way must not stop an engine that works.
        arrived = [await _value(reference) for reference in buckets]
        async with self._loading:
            self._version = None
            with _telling_death():
                await self._replace_weights(manifest, arrived)
                gap = await self._canary_gap(manifest)
            if not gap <= CANARY_TOLERANCE[self._options.dtype]:
                raise StaleWeights(
                    f"engine does not run policy version {manifest.version}: the canary prompt's "
                    f"log-probs differ from the learner's by {gap:.4f} nats on average"
                )
            self._version = manifest.version
        return {"seconds": time.monotonic() - started, "canary_gap": gap}

    async def _replace_weights(
        self, manifest: Manifest, buckets: Sequence[NDArray[np.uint8]]
    ) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        # This also forgets every cached prefix: their keys and values are the old weights'.
        await self._engine.pause_generation(mode="keep", clear_cache=True)
        memory_file = os.memfd_create("strop-weights")
        try:
            path = f"/proc/{os.getpid()}/fd/{memory_file}"
            await self._engine.start_weight_update()
            for number, bucket in enumerate(buckets):
                entries = manifest.accept(number, bucket)
                os.truncate(memory_file, bucket.nbytes)
                await asyncio.to_thread(_write, memory_file, bucket)
                update = {
                    "path": path,
                    "nbytes": bucket.nbytes,
                    "entries": [dataclasses.asdict(entry) for entry in entries],
                }
                await self._engine.update_weights(WeightTransferUpdateRequest(update))
                self._arrived += 1
            await self._engine.finish_weight_update(weight_version=f"v{manifest.version}")
        finally:
            os.close(memory_file)
        await self._engine.resume_generation()

    async def _canary_gap(self, manifest: Manifest) -> float:
        ours = await self.prompt_logprobs(manifest.canary_ids)
        return float(np.abs(ours - np.asarray(manifest.canary_logprobs, np.float32)).mean())

    async def prompt_logprobs(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """float32[len - 1]: log-prob of each token after the first, at temperature 1."""
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=1.0, prompt_logprobs=0)
        output = await self._complete(list(token_ids), params)
        rows = output.prompt_logprobs[1:]
        pairs = zip(rows, token_ids[1:], strict=True)
        return np.asarray([row[token].logprob for row, token in pairs], np.float32)

    async def generate(
        self, prompt_ids: NDArray[np.int32], sampling: SamplingOptions, count: int
    ) -> tuple[tuple[Rollout, ...], tuple[int, int]]:
        """Sample `count` completions of one prompt under the proven policy version.

        Returns the rollouts and (version, sampled tokens) as two values: called with
        `num_returns=2`, the rollouts never leave the object store. A group that straddles a
        change of weights is sampled under both and carries the older version; one that arrives
        during the change waits for it. Raises StaleWeights when no version is proven.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        async with self._loading:
            version = self._version
        if version is None:
            raise StaleWeights("the engine has not proven any policy version yet")
        params = SamplingParams(
            n=count,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._complete(prompt_ids.tolist(), params)
        rollouts = tuple(self._rollout(prompt_ids, sample, version) for sample in output.outputs)
        return rollouts, (version, sum(len(rollout.completion_ids) for rollout in rollouts))

    def _rollout(self, prompt_ids: NDArray[np.int32], sample: Any, version: int) -> Rollout:
        ids = np.asarray(sample.token_ids, np.int32)
        logprobs = np.asarray(
            [
                row[token].logprob
                for row, token in zip(sample.logprobs, sample.token_ids, strict=True)
            ],
            np.float32,
        )
        finish: FinishReason = (
            sample.finish_reason if sample.finish_reason in ("stop", "length") else "abort"
        )
        return Rollout(
            prompt_ids=prompt_ids,
            completion_ids=ids,
            logprobs=logprobs,
            text=self._tokenizer.decode(ids, skip_special_tokens=True),
            version=version,
            finish_reason=finish,
        )

    async def _complete(self, prompt_ids: list[int], params: Any) -> Any:
        from vllm.inputs import TokensPrompt

        self._requests += 1
        request = f"{self._requests}"
        final = None
        with _telling_death():
            async for output in self._engine.generate(
                TokensPrompt(prompt_token_ids=prompt_ids), params, request
            ):
                final = output
        if final is None:
            raise RuntimeError(f"vLLM ended request {request} without an output")
        return final

    async def stop(self) -> None:
        """End the engine's own process."""
        self._engine.shutdown()


@contextmanager
def _telling_death() -> Generator[None]:
    """Say in words of ours that the engine's own process died."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise ActorLost(_ENGINE_DIED) from error


async def _value(reference: Any) -> NDArray[np.uint8]:
    return await reference if isinstance(reference, ray.ObjectRef) else reference


def _write(memory_file: int, bucket: NDArray[np.uint8]) -> None:
    view = np.ascontiguousarray(bucket).data
    written = 0
    while written < len(view):
        written += os.pwrite(memory_file, view[written:], written)
