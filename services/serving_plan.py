"""Which models are loaded, refused and evicted next: pure decisions over one look at everything.

A model is loaded while somebody waits for it, if it fits; it stays until nobody has used it for
a while, or until somebody waits for another one and it is not in use. Knows neither Ray nor
Redis; the clock is whoever calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

IN_USE_SECONDS = 15.0
"""A model counts as in use for this long after the last word of a request for it."""
RETRY_SECONDS = 10.0
"""A refusal holds for this long; then whoever still waits makes us try again."""

Status = Literal["loading", "ready", "restarting", "failed", "leaving"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model somebody asked for. `used_at` is the last word of a request for it."""

    key: str
    name: str
    path: str
    used_at: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that takes resources: how it does, since when, and what is said of it."""

    status: Status
    since: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What one node of the cluster has free, and has at all."""

    cpus: float
    gpus: float
    all_cpus: float
    all_gpus: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What serving may take: `models` at a time, each with so many CPUs and GPUs of one node."""

    models: int
    cpus: float
    gpus: int
    idle_seconds: float
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model."""

    model: Wanted


@dataclass(frozen=True, slots=True)
class Unload:
    """Give back what this model takes."""

    key: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell whoever waits for this model why it is not loaded."""

    key: str
    reason: str


Step = Load | Unload | Refuse


def plan(
    wanted: Sequence[Wanted],
    loaded: Mapping[str, Loaded],
    refused: Mapping[str, float],
    nodes: Sequence[Room],
    limits: Limits,
    now: float,
) -> list[Step]:
    """The next steps. `refused` holds when each model was refused last, by its key."""
    by_key = {model.key: model for model in wanted}
    steps: list[Step] = []
    staying: dict[str, Loaded] = {}
    for key, state in loaded.items():
        if state.status == "leaving":
            continue
        if state.status == "failed":
            steps += [Unload(key), Refuse(key, state.message)]
        elif state.status != "ready" and now - state.since > limits.load_seconds:
            late = f"was not ready within {limits.load_seconds:.0f} s. {state.message}"
            steps += [Unload(key), Refuse(key, late.strip())]
        elif key not in by_key or now - by_key[key].used_at > limits.idle_seconds:
            steps.append(Unload(key))
        else:
            staying[key] = state
    waiting = [
        model
        for model in sorted(wanted, key=lambda model: model.used_at)
        if model.key not in loaded
        and now - model.used_at <= IN_USE_SECONDS
        and now - refused.get(model.key, -RETRY_SECONDS) >= RETRY_SECONDS
    ]
    # What leaves gives room soon: whoever waits waits a little longer instead of being refused.
    if not waiting or len(staying) < len(loaded):
        return steps
    model = waiting[0]
    reason = _full(staying, by_key, limits) or _lacking(nodes, limits)
    if reason is None:
        return [*steps, Load(model)]
    idle = [key for key in staying if now - by_key[key].used_at > IN_USE_SECONDS]
    if idle and any(_could_fit(node, limits) for node in nodes):
        return [*steps, Unload(min(idle, key=lambda key: by_key[key].used_at))]
    return [*steps, *(Refuse(other.key, reason) for other in waiting)]


def _full(
    staying: Mapping[str, Loaded], by_key: Mapping[str, Wanted], limits: Limits
) -> str | None:
    if len(staying) < limits.models:
        return None
    names = ", ".join(sorted(by_key[key].name for key in staying))
    return (
        f"{len(staying)} of {limits.models} models that may be served at a time "
        f"(STROP_SERVE_MODELS) are in use: {names}"
    )


def _lacking(nodes: Sequence[Room], limits: Limits) -> str | None:
    """What no node has, or None when one has it."""
    if any(node.cpus >= limits.cpus and node.gpus >= limits.gpus for node in nodes):
        return None
    needs = f"{limits.cpus:g} CPUs" + (f" and {limits.gpus} GPUs" if limits.gpus else "")
    best = max(nodes, key=lambda node: (node.gpus, node.cpus), default=Room(0, 0, 0, 0))
    free = f"{best.cpus:g} of {best.all_cpus:g} CPUs"
    if limits.gpus:
        free += f" and {best.gpus:g} of {best.all_gpus:g} GPUs"
    return (
        f"it needs {needs} of one node (STROP_SERVE_CPUS, STROP_SERVE_GPUS), and at most {free} "
        "are free: training jobs have the rest"
    )


def _could_fit(node: Room, limits: Limits) -> bool:
    return node.all_cpus >= limits.cpus and node.all_gpus >= limits.gpus
