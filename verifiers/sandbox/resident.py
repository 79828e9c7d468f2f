"""A process that moves in behind the walls for good: a worker that judges in its own memory.

What it needs from outside, its zygotes above all, it has started and opened before. Then it
raises the walls around itself and tries the canary attacks, before it reads a text.
"""

from __future__ import annotations

import resource
from collections.abc import Collection

from verifiers.sandbox import canary, policy, walls
from verifiers.sandbox.policy import Mechanism, Profile, Reach
from verifiers.sandbox.supervisor import SandboxError

_BOUNDS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 2**16),  # its last words, in a memory file
    (resource.RLIMIT_NOFILE, 64),
)


def move_in(
    reach: Reach,
    *,
    profile: Profile,
    mechanisms: Collection[Mechanism] | None = None,
    unsafe: bool = False,
) -> None:
    """Raise the walls around this process, which has one thread, and prove them.

    Raises SandboxError when one is missing or has a hole, unless `unsafe`.
    """
    demanded = policy.MECHANISMS[profile]
    raised = policy.UNSAFE if unsafe else demanded if mechanisms is None else mechanisms
    try:
        _raise(raised, reach)
    except OSError as error:
        raise SandboxError(f"a wall of the worker cannot be raised: {error}") from None
    if unsafe:
        return
    holes = [f"{name} is not in force" for name in demanded if name not in raised]
    bounds = [(name, value, value) for name, value in _BOUNDS]
    found = canary.breaches(raised, reach, bounds)
    holes += [f"{mechanism}: could {attack}" for mechanism, attack in found]
    if holes:
        raise SandboxError(f"the worker has holes and does not serve: {'; '.join(holes)}")


def _raise(mechanisms: Collection[Mechanism], reach: Reach) -> None:
    fence = walls.filters()["network worker" if reach.network else "worker"]
    walls.settle(mechanisms, reach)
    if "rlimits" in mechanisms:
        for name, value in _BOUNDS:
            resource.setrlimit(name, (value, value))
    if "seccomp" in mechanisms:
        fence.install()
