"""Whether a job's tiers fit on nodes, and what is missing when they do not.

Pure: nodes as plain numbers in, nodes with less free or a sentence out. Actors are placed
the most demanding first, each where it leaves least room; like Ray, which places them in the
end, it may miss a packing that a search would find.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

_ABOUT_NOTHING = 1e-6  # Ray counts in ten-thousandths


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine has left to give."""

    cpus: float
    gpus: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Need:
    """`count` actors of a tier, with what each takes and the labels its node must have."""

    tier: str
    count: int
    cpus: float
    gpus: float
    labels: Mapping[str, str]


def needs_of(spec: Mapping[str, Any]) -> list[Need]:
    """What a job spec asks for; a tier that it does not name asks for nothing.

    Verifiers are counted in full although a running job may have some to share.
    """
    tiers: Mapping[str, Mapping[str, Any]] = spec.get("tiers", {})
    without_teacher = spec.get("algorithm", {}).get("kind") == "grpo"
    return [
        Need(
            name,
            tier.get("replicas", 1),
            tier.get("cpus", 1.0),
            tier.get("gpus", 0.0),
            tier.get("labels", {}),
        )
        for name, tier in tiers.items()
        if not (name == "teacher" and without_teacher)
    ]


def place(needs: Sequence[Need], nodes: Sequence[Node]) -> list[Node] | str:
    """The nodes with these actors on them, or why one of them has no place."""
    left = list(nodes)
    for need in sorted(needs, key=lambda need: (-need.gpus, not need.labels, -need.cpus)):
        before = left
        for _ in range(need.count):
            at = _best(need, left)
            if at is None:
                return _missing(need, before)
            left = [
                replace(node, cpus=node.cpus - need.cpus, gpus=node.gpus - need.gpus)
                if index == at
                else node
                for index, node in enumerate(left)
            ]
    return left


def _best(need: Need, nodes: Sequence[Node]) -> int | None:
    """The node that would be fullest with one more actor of this kind."""
    fitting = [
        (node.gpus - need.gpus, node.cpus - need.cpus, index)
        for index, node in enumerate(nodes)
        if node.cpus - need.cpus >= -_ABOUT_NOTHING
        and node.gpus - need.gpus >= -_ABOUT_NOTHING
        and matches(node.labels, need.labels)
    ]
    return min(fitting)[2] if fitting else None


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Ray's label selectors: `a`, `!a`, `in(a, b)` and `!in(a, b)`."""
    return all(_matches(labels.get(name), wanted) for name, wanted in selector.items())


def _matches(value: str | None, wanted: str) -> bool:
    unwanted, wanted = wanted.startswith("!"), wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", wanted)
    values = [item.strip() for item in listed[1].split(",")] if listed else [wanted]
    return (value in values) != unwanted


def _missing(need: Need, nodes: Sequence[Node]) -> str:
    """What a tier needs and what there is of it, as a person reads it."""
    where = ""
    if need.labels:
        said = ", ".join(f"{name}={value}" for name, value in sorted(need.labels.items()))
        nodes = [node for node in nodes if matches(node.labels, need.labels)]
        if not nodes:
            return f"needs a node with the labels {said} for `{need.tier}`; there is none"
        where = f" with the labels {said}"
    for unit, each, free in (
        ("GPU", need.gpus, [node.gpus for node in nodes]),
        ("CPU", need.cpus, [node.cpus for node in nodes]),
    ):
        wanted, total = each * need.count, sum(map(_floor, free))
        if wanted > total + _ABOUT_NOTHING:
            return f"needs {_number(wanted, unit)}{where} for `{need.tier}`; {_are(total)} free"
        if each > max(map(_floor, free), default=0) + _ABOUT_NOTHING:
            return (
                f"needs {_number(each, unit)} on one node{where} for `{need.tier}`; "
                f"{_are(max(free))} free on the emptiest"
            )
    each = [_number(each, unit) for unit, each in (("GPU", need.gpus), ("CPU", need.cpus)) if each]
    return (
        f"needs {need.count} times {' and '.join(each)}{where} for `{need.tier}`; "
        "what is free is spread over too many nodes"
    )


def _floor(number: float) -> float:
    return max(0.0, number)


def _number(number: float, unit: str) -> str:
    return f"{_short(number)} {unit}" + ("" if number == 1 else "s")


def _are(number: float) -> str:
    return f"{_short(number)} {'is' if _short(number) == '1' else 'are'}"


def _short(number: float) -> str:
    # What is free is rounded down, so that the sentence never contradicts itself.
    return f"{math.floor(number * 100 + _ABOUT_NOTHING) / 100:g}"
