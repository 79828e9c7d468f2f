"""Attacks on the sandbox and on the judge, as data: what a hostile completion tries.

A forger must not be judged correct. An intruder's `f` says "blocked" when the wall stopped
it and what it got otherwise, so its one test passes exactly when the wall holds. @DIR@,
@SECRET@, @PORT@ and @VICTIM@ stand for a folder, a file, a listening port and a process
that all belong to the user the sandbox runs as.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.verifiers.sandbox.attacks.abuses import ABUSES, CALLED, RAW
from tests.verifiers.sandbox.attacks.exhaustions import EXHAUSTIONS
from tests.verifiers.sandbox.attacks.forgeries import FORGERIES
from tests.verifiers.sandbox.attacks.graders import GRADERS, SLOW_GRADERS, TEXTS
from tests.verifiers.sandbox.attacks.intrusions import INTRUSIONS, PRELUDE

FORGED = ("wrong", "malformed", "timeout")


@dataclass(frozen=True)
class Attack:
    """One hostile completion or function, its spec and the statuses that mean it failed."""

    group: str
    name: str
    source: str
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    statuses: tuple[str, ...] = FORGED


_TESTS = ["assert f(2) == 4", "assert f(3) == 9"]
_BOUNDED = {"timeout_s": 0.5, "memory_mb": 256}


def _grader(body: str, before: str = "") -> dict[str, Any]:
    source = f"{before}\ndef grade(sample, item):\n    {body}"
    return {"kind": "python", "source": source, "item": {"answer": "4"}, "timeout_s": 1}


def _grader_attacks() -> Iterator[Attack]:
    """Hostile texts for an honest function, and hostile functions."""
    equals = "return float(sample['output_text'] == item['answer'])"
    for name, text in TEXTS.items():
        yield Attack("verdict forging", f"grader: {name}", text, _grader(equals), ("wrong",))
    for name, body in GRADERS.items():
        yield Attack("protocol abuse", f"grader: {name}", "4", _grader(body), ("infra_error",))
    for name, body in SLOW_GRADERS.items():
        yield Attack("resource exhaustion", f"grader: {name}", "4", _grader(body), ("timeout",))
    for name, body in INTRUSIONS.items():
        spec = _grader("got = f()\n    assert got == 'blocked', got\n    return 1",
                       f"{PRELUDE}    {body}\n")  # fmt: skip
        yield Attack("side effects", f"grader: {name}", "4", spec, ("correct",))


_BEHIND_WALLS = {"tests": ["for x in (2, 3):\n    assert f(x) == x * x"]}
"""Tests that say more than plain data: a process of their own judges."""
_CALLS = {
    "calls": [{"args": [2], "expect": 4}, {"args": [3], "expect": 9}],
    "entry_point": "f",
}
"""Calls by name, which are sent before their answers are read."""


def _attacks(
    group: str, cases: Mapping[str, str | tuple[str, dict[str, Any]]], **spec: Any
) -> Iterator[Attack]:
    """Each attack against both judges, unless it brings a spec of its own."""
    for name, given in cases.items():
        if isinstance(given, tuple):
            yield Attack(group, name, given[0], spec | given[1])
            continue
        yield Attack(group, name, given, spec | {"tests": _TESTS})
        yield Attack(group, f"{name}, before a judge behind walls", given, spec | _BEHIND_WALLS)


ATTACKS: tuple[Attack, ...] = (
    *_attacks("verdict forging", FORGERIES, timeout_s=2.0),
    *(
        Attack(
            "side effects",
            name,
            f"{PRELUDE}    {body}\n",
            {"tests": ["assert f() == 'blocked', f()"]},
            ("correct",),
        )
        for name, body in INTRUSIONS.items()
    ),
    *_attacks("resource exhaustion", EXHAUSTIONS, **_BOUNDED),
    *_attacks(
        "protocol abuse",
        {name: f"{RAW}{body}\n" for name, body in ABUSES.items()},
        **_BOUNDED,
    ),
    *(
        Attack("protocol abuse", f"{name}, to a call", f"{CALLED}{body}\n", _CALLS | _BOUNDED)
        for name, body in ABUSES.items()
    ),
    *_grader_attacks(),
)
