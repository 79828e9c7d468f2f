"""Runs every attack in one sandbox and prints a JSON line for each: run as a program.

Whoever starts it chooses the user and the privileges. Arguments: a folder to guard, and how
files are kept out of reach (a profile of `policy`) where the kernel is not to decide. Each
line has the verdict's status, whether an honest program was still judged right after it,
and what survived or was written.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from tests.verifiers.sandbox.attacks import ATTACKS
from verifiers import code, python
from verifiers.sandbox.policy import Profile
from verifiers.sandbox.supervisor import Sandbox
from verifiers.spec import parse_spec

HONEST = parse_spec({"kind": "code", "tests": ["assert f(2) == 4"]})


def main() -> None:
    """Guard a folder, a file in it, a port and a process; attack; report."""
    folder = Path(sys.argv[1])
    secret = folder / "secret"
    secret.write_text("secret")
    victim = subprocess.Popen(["sleep", "600"])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    places = {
        "@DIR@": str(folder),
        "@SECRET@": str(secret),
        "@PORT@": str(listener.getsockname()[1]),
        "@VICTIM@": str(victim.pid),
    }
    guarded = _state(folder)
    try:
        with Sandbox(profile=cast(Profile, sys.argv[2]) if sys.argv[2:] else None) as sandbox:
            for warm_up in ("", "import numpy\n"):
                _judge(sandbox, f"{warm_up}def f(x): return 4", HONEST)
            family = _descendants(os.getpid())
            for attack in ATTACKS:
                source, spec = attack.source, json.dumps({"kind": "code", **attack.spec})
                for mark, value in places.items():
                    source, spec = source.replace(mark, value), spec.replace(mark, value)
                verdict = _judge(sandbox, source, parse_spec(json.loads(spec)))
                harm: list[str] = []
                if _descendants(os.getpid()) - family:
                    harm.append("a process survived")
                if _state(folder) != guarded or Path("/tmp/strop-attack").exists():
                    harm.append("a file was changed")
                if victim.poll() is not None:
                    harm.append("the victim died")
                if _connected(listener):
                    harm.append("a connection arrived")
                healthy = _judge(sandbox, "def f(x): return 2 * x", HONEST).status == "correct"
                report = {
                    "name": attack.name,
                    "status": verdict.status,
                    "evidence": dict(verdict.evidence),
                    "harm": harm,
                    "healthy": healthy,
                }
                print(json.dumps(report), flush=True)
    finally:
        victim.kill()
        victim.wait()
        listener.close()


def _judge(sandbox: Sandbox, source: str, spec: Any) -> Any:
    if spec.kind == "python":
        return python.judge(spec, source, sandbox)
    return code.judge(spec, f"```python\n{source}\n```", sandbox)


def _state(folder: Path) -> list[tuple[str, int, int, int, bytes]]:
    return [
        (str(p), p.stat().st_mode, p.stat().st_mtime_ns, p.stat().st_nlink, p.read_bytes())
        for p in sorted(folder.rglob("*"))
    ]


def _connected(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _descendants(pid: int) -> set[int]:
    children: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = status.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            children.add(int(name.split()[0]))
    return children.union(*(_descendants(child) for child in children))


if __name__ == "__main__":
    main()
