"""One served model: vLLM's engine behind vLLM's own OpenAI routes, as a Ray Serve deployment.

In: a model folder and the name clients call it by. Out: an application that answers
`/v1/chat/completions` and `/v1/completions` to whoever presents the token, and nothing else to
anybody. Knows nothing of tenants, jobs or Redis.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.precision import cpu_has_bfloat16
from services.rollout import CPU_BLOCK_TOKENS
from services.threads import compute_env
from trainer.demo_model import resolve_model

_log = logging.getLogger("ray.serve")

_HEALTH_SECONDS = 2.0  # how often Serve looks whether the engine lives
_HEALTH_TIMEOUT_SECONDS = 60.0
_DRAIN_SECONDS = 10.0
_REQUESTS = 256  # in flight on one engine; vLLM queues what it cannot batch


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """One model and what it may take. `gpus` above 1 shards it over them.

    `path` is a folder or what else `trainer.demo_model.resolve_model` knows.
    """

    name: str
    path: str
    cpus: float
    gpus: int
    kv_cache_gib: float
    gpu_memory_utilization: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])  # of the node it runs on


def engine_arguments(options: ModelOptions) -> list[str]:
    """The options of `vllm serve`; the longest context is whatever fits the memory."""
    arguments = [
        f"--model={options.path}",
        f"--served-model-name={options.name}",
        "--load-format=safetensors",  # never a pickle that lies beside them
        "--max-model-len=auto",
        "--distributed-executor-backend=" + ("mp" if options.gpus > 1 else "uni"),
        "--disable-log-stats",
    ]
    if options.gpus:
        return [
            *arguments,
            f"--tensor-parallel-size={options.gpus}",
            f"--gpu-memory-utilization={options.gpu_memory_utilization}",
        ]
    return [
        *arguments,
        "--enforce-eager",
        "--dtype=" + ("auto" if cpu_has_bfloat16() else "float32"),
        f"--kv-cache-memory-bytes={int(options.kv_cache_gib * (1 << 30))}",
        f"--block-size={CPU_BLOCK_TOKENS}",
    ]


def environment(options: ModelOptions) -> dict[str, str]:
    """Of the process that holds the engine."""
    env = {
        # Engine core and model share one process where one device holds it: what ends the
        # engine then ends the replica, and Serve knows at once.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if options.gpus > 1 else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if options.gpus:
        return {**env, "TOKENIZERS_PARALLELISM": "false"}
    return {
        **env,
        **compute_env(max(1, round(options.cpus))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # The sampler's own small compiled functions cost seconds to build and gain nothing.
        "TORCHDYNAMO_DISABLE": "1",
    }


class _Gate:
    """Lets nobody in without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._digest = _digest(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            shown = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(_digest(shown), self._digest):
                await PlainTextResponse("the API alone may ask", 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@serve.ingress()
class ModelServer:
    """The engine of one model."""

    def __init__(self, options: ModelOptions, token: str) -> None:
        """Load the model. Raises ModelError when there is no such model."""
        self._token = token
        options = replace(options, path=str(resolve_model(options.path)))
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        parser = make_arg_parser(FlexibleArgumentParser())
        self._args: Any = parser.parse_args(engine_arguments(options))
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(self._args))

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """vLLM's routes of these two, behind the gate: `vllm serve` has many more."""
        from fastapi import FastAPI
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.openai.chat_completion import api_router as chat
        from vllm.entrypoints.openai.completion import api_router as completions
        from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        app.state.args = self._args
        # A dead engine makes vLLM set this server's `should_exit`; `check_health` tells Serve.
        app.state.server = SimpleNamespace()
        tasks = await self._engine.get_supported_tasks()
        await init_app_state(self._engine, app.state, self._args, tasks)
        chat.attach_router(app)
        completions.attach_router(app)
        init_exception_handler(app)
        return _Gate(app, self._token)

    async def check_health(self) -> None:
        """End this process when the engine is dead: Serve starts another replica at once, where
        it would ask a sick one twice more and then drain it."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._engine.check_health()
        except EngineDeadError:
            _log.exception("the engine is dead")
            os._exit(1)

    def __del__(self) -> None:
        """End the engine's own process."""
        if engine := getattr(self, "_engine", None):
            engine.shutdown()


def application(options: ModelOptions, token: str) -> Application:
    """The Serve application of one model, one replica of it."""
    deployment: Any = serve.deployment(
        ModelServer,
        name="model",
        num_replicas=1,
        ray_actor_options={
            "num_cpus": options.cpus,
            "num_gpus": options.gpus,
            "runtime_env": {"env_vars": environment(options)},
            **({"label_selector": dict(options.labels)} if options.labels else {}),
        },
        max_ongoing_requests=_REQUESTS,
        max_queued_requests=_REQUESTS,
        health_check_period_s=_HEALTH_SECONDS,
        health_check_timeout_s=_HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        max_constructor_retry_count=1,
    )
    return deployment.bind(options, token)
