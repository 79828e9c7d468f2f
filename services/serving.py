"""The serving loop: loads the models that are wanted, evicts the idle, tells how each one does.

Runs beside the dispatcher; of all loops over one store one leads at a time, and the models
outlive it. What to do next is decided in services/serving_plan.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from services.errors import StoreUnavailable
from services.placement import label
from services.ray_connection import connect
from services.served_models import ServedModels, Serving
from services.serving_plan import RETRY_SECONDS, Limits, Load, Loaded, Room, Unload, Wanted, plan
from services.settings import Settings

if TYPE_CHECKING:
    from services.model_server import ModelOptions
    from services.serve_cluster import ServeCluster

_log = logging.getLogger("strop.serving")

_LEAD_SECONDS = 15.0
_BUSY_POLL_SECONDS = 0.25
_IDLE_POLL_SECONDS = 1.0
_CALL_SECONDS = 60.0  # longest that one call to Ray may take

P = ParamSpec("P")
T = TypeVar("T")


class ServingLoop:
    """Serves what `models` says is wanted, within the settings."""

    def __init__(self, models: ServedModels, settings: Settings, worker: str) -> None:
        self._models = models
        self._settings = settings
        self._worker = worker
        self._cluster: ServeCluster | None = None
        self._refused: dict[str, tuple[float, str]] = {}
        self._since: dict[str, tuple[str, float]] = {}
        self._resting = False
        self._leads = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; the models stay."""
        leading = asyncio.create_task(self._lead())
        try:
            while not stop.is_set():
                pause = _IDLE_POLL_SECONDS
                try:
                    if self._leads:
                        pause = await self._round()
                except StoreUnavailable as error:
                    _log.warning("%s", error)
                except Exception:
                    # Ray's errors are of every kind, and the cluster may come back.
                    _log.exception("serving: a round failed")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        finally:
            leading.cancel()
            with suppress(StoreUnavailable):
                await self._models.resign(self._worker)

    async def _lead(self) -> None:
        """Hold the lead, or wait for it; beside the rounds, for one may take long."""
        while True:
            try:
                self._leads = await self._models.lead(self._worker, _LEAD_SECONDS)
            except StoreUnavailable:
                self._leads = False
            await asyncio.sleep(_LEAD_SECONDS / 5 if self._leads else _IDLE_POLL_SECONDS)

    async def _round(self) -> float:
        """One look and what follows from it; the seconds until the next."""
        now, wanted = await self._models.wanted(self._settings.serve_idle_seconds)
        if self._cluster is None:
            # A model that an earlier loop left behind is found by what was told of it.
            if not wanted and not await self._models.states():
                return _IDLE_POLL_SECONDS
            self._cluster = await _within(_connected, self._settings)
        cluster = self._cluster
        loaded = self._dated(await _within(cluster.loaded), now)
        nodes = await _within(cluster.nodes)
        limits = self._limits(nodes)
        self._refused = {
            key: (at, reason)
            for key, (at, reason) in self._refused.items()
            if now - at < RETRY_SECONDS
        }
        refused = {key: at for key, (at, _) in self._refused.items()}
        steps = plan(wanted, loaded, refused, nodes, limits, now)
        token = await self._models.token()
        for step in steps:
            if isinstance(step, Load):
                _log.info("loading %s", step.model.name)
                options = self._options(step.model, limits.gpus)
                await _within(cluster.load, step.model.key, options, token)
            elif isinstance(step, Unload):
                _log.info("unloading %s", step.key)
                await _within(cluster.unload, step.key)
            else:
                _log.warning("%s is not served: %s", step.key, step.reason)
                self._refused[step.key] = (now, step.reason)
        await self._tell(loaded, now)
        if loaded or steps:
            self._resting = False
        elif not wanted and not self._resting:
            await _within(cluster.rest)
            self._resting = True
        ready = {key for key, state in loaded.items() if state.status == "ready"}
        busy = ready != loaded.keys() or any(model.key not in ready for model in wanted)
        return _BUSY_POLL_SECONDS if busy else _IDLE_POLL_SECONDS

    def _dated(self, loaded: dict[str, Loaded], now: float) -> dict[str, Loaded]:
        """The models with the time since when each is in its status."""
        self._since = {
            key: before
            if (before := self._since.get(key, ("", now)))[0] == state.status
            else (state.status, now)
            for key, state in loaded.items()
        }
        return {
            key: Loaded(state.status, self._since[key][1], state.message)
            for key, state in loaded.items()
        }

    async def _tell(self, loaded: dict[str, Loaded], now: float) -> None:
        states = {
            key: Serving("refused", at, reason=reason)
            for key, (at, reason) in self._refused.items()
        }
        for key, state in loaded.items():
            if state.status in ("failed", "leaving") or key in self._refused:
                continue
            url = None
            if state.status == "ready" and self._cluster is not None:
                url = await _within(self._cluster.url, key)
            states[key] = Serving(state.status, now, url, state.message)
        await self._models.tell(states)

    def _limits(self, nodes: list[Room]) -> Limits:
        settings = self._settings
        some = any(node.all_gpus >= 1 for node in nodes)
        return Limits(
            models=settings.serve_models,
            cpus=settings.serve_cpus,
            gpus=int(some) if settings.serve_gpus is None else settings.serve_gpus,
            idle_seconds=settings.serve_idle_seconds,
            load_seconds=settings.serve_load_seconds,
        )

    def _options(self, model: Wanted, gpus: int) -> ModelOptions:
        from services.model_server import ModelOptions

        settings = self._settings
        return ModelOptions(
            name=model.name,
            path=model.path,
            cpus=settings.serve_cpus,
            gpus=gpus,
            kv_cache_gib=settings.serve_kv_cache_gib,
            gpu_memory_utilization=settings.serve_gpu_memory,
            labels=label("rollout") if settings.tier_labels else {},
        )


async def _within(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A blocking call in a thread. Raises TimeoutError at the deadline."""
    async with asyncio.timeout(_CALL_SECONDS):
        return await asyncio.to_thread(call, *args, **kwargs)


def _connected(settings: Settings) -> ServeCluster:
    """Serve on the cluster of the settings, which this process is then connected to."""
    connect(settings.ray_address)
    from services.serve_cluster import ServeCluster

    return ServeCluster(settings.serve_host, settings.serve_port)
