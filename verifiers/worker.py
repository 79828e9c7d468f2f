"""The worker process: reads jobs from descriptor 0, judges them, writes verdicts back.

Started by `process.WorkerProcess` through exec, with an empty environment and this one
descriptor. It dies with its parent, starts its sandbox, which proves its walls or ends
the worker, limits its own memory and files, and lets the kernel kill it when one job uses
up its CPU time; the wall deadline is its parent's to keep.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from verifiers import symbolic, wire
from verifiers.judge import judge, prepare
from verifiers.sandbox import supervisor, walls
from verifiers.sandbox.supervisor import SandboxError
from verifiers.spec import AnySpec, parse_spec
from verifiers.verdict import Verdict

CHANNEL = 0
MAX_OPEN_FILES = 64
MAX_FILE_SIZE = 2**20
RESERVE = 2 * 2**30
PREPARE_CPU_S = 20.0
"""What a task may use once, before its first completion."""


def main() -> None:
    """Serve until the parent closes the channel.

    Arguments: memory (bytes), CPU (seconds), `unsafe` or `walled`.
    """
    memory, cpu_s, unsafe = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "unsafe"
    walls.die_with_parent()
    supervisor.shared(unsafe=unsafe)
    _restrict(memory)
    symbolic.warm_up()
    _send({"ready": True, "cpu_s": time.process_time()})
    decoder = wire.Decoder()
    while data := os.read(CHANNEL, 2**16):
        for message in decoder.feed(data):
            _serve(message, cpu_s)


def _restrict(memory: int) -> None:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    if taken > memory:
        raise MemoryError(f"a worker takes up {taken // 2**20} MiB before any work")
    # What reserves address space that it does not use, DuckDB, may take the rest.
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory + RESERVE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_SIZE, MAX_FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _serve(message: dict[str, Any], cpu_s: float) -> None:
    out_of_memory = False
    try:
        spec = _spec(message["spec"])
        _allow_cpu(PREPARE_CPU_S)
        prepare(spec)
        _allow_cpu(cpu_s)
        verdict = judge(spec, message["completion"])
    except MemoryError:
        out_of_memory = True
        verdict = Verdict(0.0, "timeout", {"limit": "memory"})
    except SandboxError:  # this process cannot start another: it ends, the job goes elsewhere
        raise
    except Exception:
        _send({"error": traceback.format_exc(limit=-5)})
        return
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    # A heap that was full is not handed to the next job.
    last = {"last": True} if out_of_memory else {}
    _send({"verdict": asdict(verdict), "cpu_s": time.process_time(), **last})


def _allow_cpu(seconds: float) -> None:
    """Let the kernel end this process once one job has used `seconds` of CPU.

    The profiling timer is exact; the resource limit, in whole seconds, stands behind it.
    Neither needs the interpreter to come round, as a Python signal handler would.
    """
    spent = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, seconds)


@lru_cache(maxsize=256)
def _spec(text: str) -> AnySpec:
    return parse_spec(json.loads(text))


def _send(message: dict[str, Any]) -> None:
    data = memoryview(wire.encode(message))
    while data:
        data = data[os.write(CHANNEL, data) :]
