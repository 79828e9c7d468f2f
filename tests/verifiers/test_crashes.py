"""Whose fault it is when a worker dies: no false zero, and no endless retry."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.verifiers import odd_worker
from verifiers import crew, process
from verifiers.pool import WorkerPool

TWELVE = {"kind": "math", "answer": "12"}


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    monkeypatch.setattr(process, "_BOOT", odd_worker.boot())
    with WorkerPool(1, databases=[tmp_path]) as pool:
        yield pool


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.005)


@pytest.mark.parametrize("how", ["segfault", "abort", "overflow"])
def test_a_text_that_crashes_two_workers_is_the_candidates_fault(pool: WorkerPool, how: str):
    verdict = pool.judge(TWELVE, f"die:{how}")
    assert (verdict.status, verdict.score) == ("malformed", 0.0)
    assert "crashed twice" in verdict.evidence["reason"]
    assert "SIGSEGV" in verdict.evidence["reason"] or "SIGABRT" in verdict.evidence["reason"]
    assert pool.replaced == 2
    assert pool.judge(TWELVE, "12").status == "correct"


def test_a_crash_that_does_not_repeat_is_ours_and_costs_no_verdict(pool: WorkerPool):
    (first,) = pool.pids
    os.kill(first, signal.SIGSTOP)
    future = pool.submit(TWELVE, "12")
    wait_until(lambda: pool.busy == 1, "the job is handed out")
    os.kill(first, signal.SIGSEGV)
    os.kill(first, signal.SIGCONT)
    assert future.result(timeout=60).status == "correct"


def test_a_crash_and_kills_from_outside_are_no_zero(pool: WorkerPool):
    future = pool.submit(TWELVE, "die:waiting")
    for killed, number in enumerate((signal.SIGSEGV, signal.SIGKILL, signal.SIGKILL)):
        wait_until(lambda k=killed: (pool.replaced, pool.busy) == (k, 1), "a worker is at the job")
        (pid,) = pool.pids
        os.kill(pid, number)
    verdict = future.result(timeout=60)
    assert (verdict.status, verdict.score) == ("infra_error", None)
    assert "SIGKILL" in verdict.evidence["reason"]


def test_an_end_that_no_text_brings_about_is_ours(pool: WorkerPool):
    verdict = pool.judge(TWELVE, "die:leave")
    assert (verdict.status, verdict.score) == ("infra_error", None)
    assert "the worker died: exit code 3" in verdict.evidence["reason"]


@pytest.mark.parametrize("how", ["segfault", "leave"])
def test_a_worker_that_ends_over_the_task_is_our_fault(pool: WorkerPool, how: str):
    spec = {"kind": "sql", "database": "x.sqlite", "query": f"die:{how}"}
    verdict = pool.judge(spec, "SELECT 1")
    assert (verdict.status, verdict.score) == ("infra_error", None)
    assert "preparing the task" in verdict.evidence["reason"]


def test_a_task_that_takes_too_long_to_prepare_is_our_fault(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crew, "PREPARE_S", 0.3)
    spec = {"kind": "sql", "database": "x.sqlite", "query": "die:waiting"}
    verdict = pool.judge(spec, "SELECT 1")
    assert (verdict.status, verdict.score) == ("infra_error", None)
    assert "more than 0.3 s" in verdict.evidence["reason"]


def test_a_judge_that_crashes_at_every_text_is_our_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    crashing = odd_worker.boot().replace(
        "odd.main()", "odd._judge = lambda *a: odd._die('segfault'); odd.main()"
    )
    monkeypatch.setattr(process, "_BOOT", crashing)
    with WorkerPool(1) as pool:
        verdict = pool.judge(TWELVE, "12")
    assert (verdict.status, verdict.score) == ("infra_error", None)
