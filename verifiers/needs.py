"""What a spec needs of the worker that judges it, and what a completion may cost there.

CPU and memory are bounded by kind, so that a hostile statement costs little; what a worker
spends on the task itself, once, is not counted against a completion. Knows no worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from verifiers.databases import FILE_ENGINES
from verifiers.grader_specs import TextSimilaritySpec
from verifiers.model_specs import ModelSpec
from verifiers.remote_spec import RemoteSpec
from verifiers.spec import AnySpec, granted_s, plain
from verifiers.sql_spec import SqlSpec

_MIB = 2**20

_ASKING = ("remote", "score_model", "label_model")
_STATEMENTS = ("sql", "schema", "choice", "text", "string_check", "text_similarity")
CPU_S = {
    "math": 1.8,
    **dict.fromkeys(_STATEMENTS, 1.2),
    **dict.fromkeys((*_ASKING, "code", "python"), 2.0),  # what they run is bounded elsewhere
}
MEMORY = {
    "math": 384 * _MIB,
    **dict.fromkeys(_STATEMENTS, 176 * _MIB),
    **dict.fromkeys((*_ASKING, "code", "python"), 512 * _MIB),
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
    folders    how many of the pool's folders, from the first, it must be able to read
    """

    network: bool
    prepares: bool
    granted_s: float
    cpu_s: float
    memory: int
    folders: int = 0


def needs(spec: AnySpec) -> Needs:
    """What a spec needs; one made of others, what those need together."""
    leaves = plain(spec)
    return Needs(
        network=any(map(needs_network, leaves)),
        prepares=any(isinstance(leaf, SqlSpec | TextSimilaritySpec) for leaf in leaves),
        granted_s=granted_s(spec),
        cpu_s=sum(CPU_S[leaf.kind] for leaf in leaves),
        memory=max(map(_memory, leaves)),
    )


def needs_network(spec: AnySpec) -> bool:
    """Whether a plain spec's judge connects to another process or machine."""
    if isinstance(spec, SqlSpec):
        return spec.engine not in FILE_ENGINES
    return isinstance(spec, RemoteSpec | ModelSpec)


def _memory(spec: AnySpec) -> int:
    duckdb = isinstance(spec, SqlSpec) and spec.engine == "duckdb"
    return DUCKDB_MEMORY if duckdb else MEMORY[spec.kind]
