"""Where a process stands that makes no progress: its stacks, and those of its children.

py-spy reads them from outside, on the process's own node; nothing in the process has to
answer. Where the system forbids that, the dump says so instead.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS = 30.0


async def dump(pid: int, node: str, folder: Path, name: str) -> Path | None:
    """Write the stacks of a process on a Ray node to a new file in `folder`; None if none came."""
    try:
        text = await stacks(pid, node)
        return None if text is None else await asyncio.to_thread(_keep, text, folder, name)
    except OSError:
        return None  # the disk is full: the restart must not wait for that


async def stacks(pid: int, node: str) -> str | None:
    """The stacks of a process on a Ray node; None when the node does not say."""
    task: Any = ray.remote(_stacks).options(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    try:
        async with asyncio.timeout(2 * SECONDS):
            return await task.remote(pid)
    except (RayError, TimeoutError):
        return None


def _keep(text: str, folder: Path, name: str) -> Path:
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _stacks(pid: int) -> str:
    program = Path(sys.executable).with_name("py-spy")
    command = [str(program), "dump", "--nonblocking", "--subprocesses", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no stacks: {error}\n"
    return done.stdout or f"no stacks: {done.stderr.strip()}\n"
