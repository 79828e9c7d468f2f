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
    task: Any = ray.remote(_stacks).options(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    try:
        text = await asyncio.wait_for(_value(task.remote(pid)), 2 * SECONDS)
        return await asyncio.to_thread(_keep, text, folder, name)
    except (RayError, TimeoutError, OSError):
        return None  # the node is gone, or the disk is full: the restart must not wait for that


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


async def _value(reference: Any) -> str:
    return await reference
