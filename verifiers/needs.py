"""What a spec needs of the worker that judges it, and what a completion may cost there.

CPU and memory are bounded by kind, so that a hostile statement costs little; what a worker
spends on the task itself, once, is not counted against a completion. Knows no worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from verifiers.databases import FILE_ENGINES
from verifiers.remote_spec import RemoteSpec
from verifiers.spec import AnySpec, CompositeSpec, granted_s
from verifiers.sql_spec import SqlSpec

_MIB = 2**20

CPU_S = {
    "math": 1.8,
    **dict.fromkeys(("sql", "schema", "choice", "text"), 1.2),
    **dict.fromkeys(("code", "python", "remote"), 2.0),  # what they run is bounded elsewhere
}
MEMORY = {
    "math": 384 * _MIB,
    **dict.fromkeys(("sql", "schema", "choice", "text"), 176 * _MIB),
    **dict.fromkeys(("code", "python", "remote"), 512 * _MIB),
}
"""Address space on top of what the worker holds, which is about 100 MiB."""
DUCKDB_MEMORY = 256 * _MIB
"""DuckDB reserves more than it uses; what it uses it bounds itself."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one spec.

    network    whether it talks to other machines
    prepares   whether a worker makes something of the task first
    granted_s  wall seconds that its own limits grant it, 0 when it has none
    cpu_s      CPU seconds of the worker for one completion
    memory     bytes of address space for one completion
    """

    network: bool
    prepares: bool
    granted_s: float
    cpu_s: float
    memory: int


def needs(spec: AnySpec) -> Needs:
    """What a spec needs; a composite, what its parts need together."""
    if isinstance(spec, CompositeSpec):
        parts = [needs(part) for part in spec.verifiers]
        return Needs(
            network=any(part.network for part in parts),
            prepares=any(part.prepares for part in parts),
            granted_s=granted_s(spec),
            cpu_s=sum(part.cpu_s for part in parts),
            memory=max(part.memory for part in parts),
        )
    duckdb = isinstance(spec, SqlSpec) and spec.engine == "duckdb"
    return Needs(
        network=needs_network(spec),
        prepares=isinstance(spec, SqlSpec),
        granted_s=granted_s(spec),
        cpu_s=CPU_S[spec.kind],
        memory=DUCKDB_MEMORY if duckdb else MEMORY[spec.kind],
    )


def needs_network(spec: AnySpec) -> bool:
    """Whether a plain spec's judge connects to another process or machine."""
    if isinstance(spec, SqlSpec):
        return spec.engine not in FILE_ENGINES
    return isinstance(spec, RemoteSpec)
