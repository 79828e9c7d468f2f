"""Facts about code in the worker pool."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from verifiers.pool import WorkerPool

SPEC = {"kind": "code", "tests": ["assert f(2) == 4"], "timeout_s": 2}
RIGHT = "```python\ndef f(x):\n    return 2 * x\n```"
HANGS = "```python\ndef f(x):\n    while True: pass\n```"
GRADER = {"kind": "python", "source": "def grade(sample, item):\n    return item['score']"}


def test_the_pool_judges_code_and_graders() -> None:
    with WorkerPool(1) as pool:
        cases = [(SPEC, RIGHT), (SPEC, RIGHT.replace("2 *", "3 *")), (SPEC, HANGS)]
        cases += [(GRADER | {"item": {"score": score}}, "x") for score in (1.0, 0.25, 7)]
        cases += [({"kind": "math", "answer": "2"}, "\\boxed{2}")]
        verdicts = pool.judge_many(cases)
        assert [v.status for v in verdicts] == [
            *("correct", "wrong", "timeout", "correct", "wrong", "infra_error", "correct")
        ]
        assert verdicts[4].score == 0.25
        assert pool.replaced == 0, "a hanging program costs no worker"


def test_a_killed_zygote_loses_no_verdict() -> None:
    with WorkerPool(1) as pool:
        (worker,) = pool.pids
        family = _descendants(worker)
        os.kill(family[0], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(map(_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool.judge(SPEC, RIGHT).status == "correct"
        assert pool.replaced == 1


def test_a_killed_worker_leaves_no_process_behind() -> None:
    with WorkerPool(1) as pool:
        (worker,) = pool.pids
        future = pool.submit(SPEC | {"timeout_s": 60}, HANGS)
        deadline = time.monotonic() + 20
        while len(family := _descendants(worker)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(family) >= 3, "two zygotes and the candidate"
        os.kill(worker, signal.SIGKILL)
        while any(map(_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(_alive, family))
        future.cancel()


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descendants(pid: int) -> list[int]:
    children = _children(pid)
    return children + [other for child in children for other in _descendants(child)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
