"""The worker pool: order, deadlines, deaths, and nothing left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifiers import wire
from verifiers.judge import MAX_COMPLETION
from verifiers.pool import PoolError, WorkerPool
from verifiers.spec import SpecError, parse_spec

REPOSITORY = Path(__file__).parents[2]
TWELVE = {"kind": "math", "answer": "12"}
BURNING = ({"kind": "math", "answer": "\\ln 5"}, "\\boxed{\\prod_{k=1}^{9999} \\ln(k)}")
"""Minutes of work for sympy, beyond the reach of exact arithmetic."""


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_verdicts_come_in_the_order_of_the_cases(shared_pool: WorkerPool):
    cases = [(TWELVE, f"The answer is {n % 13}.") for n in range(300)]
    cases[7] = ({"kind": "choice", "answer": "A", "choices": ["x", "y"]}, "A")  # type: ignore[assignment]
    cases[8] = ({"kind": "schema", "schema": {"type": "null"}}, "null")  # type: ignore[assignment]
    statuses = [verdict.status for verdict in shared_pool.judge_many(cases)]
    expected = ["correct" if n % 13 == 12 or n in (7, 8) else "wrong" for n in range(300)]
    assert statuses == expected


def test_verdicts_carry_their_cost(shared_pool: WorkerPool):
    verdict = shared_pool.judge(TWELVE, "12")
    assert 0 < verdict.cpu_ms < 2_000
    assert verdict.wall_ms > 0


def test_a_spec_object_serves_as_well_as_its_data(shared_pool: WorkerPool):
    assert shared_pool.judge(parse_spec(TWELVE), "12").score == 1.0


def test_many_threads_and_an_event_loop_share_a_pool(shared_pool: WorkerPool):
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda n: shared_pool.judge(TWELVE, str(n)), range(100)))
    assert [n for n, verdict in enumerate(verdicts) if verdict.status == "correct"] == [12]

    async def both() -> list[str]:
        one, many = await asyncio.gather(
            shared_pool.judge_async(TWELVE, "12"),
            shared_pool.judge_many_async([(TWELVE, "11"), (TWELVE, "12")]),
        )
        return [one.status, *(verdict.status for verdict in many)]

    assert asyncio.run(both()) == ["correct", "wrong", "correct"]


def test_a_bad_spec_fails_in_the_caller_before_any_work(shared_pool: WorkerPool):
    with pytest.raises(SpecError, match="answer"):
        shared_pool.judge_many([(TWELVE, "12"), ({"kind": "math"}, "12")])


def test_a_case_that_burns_cpu_times_out_and_the_pool_goes_on(shared_pool: WorkerPool):
    verdicts = shared_pool.judge_many([BURNING, (TWELVE, "12"), BURNING, (TWELVE, "13")])
    assert [v.status for v in verdicts] == ["timeout", "correct", "timeout", "wrong"]
    assert verdicts[0].score == 0.0
    assert dict(verdicts[0].evidence) == {"limit": "cpu", "seconds": 1.8}
    assert 1_000 < verdicts[0].cpu_ms < 2_000


@pytest.mark.parametrize(
    "completion",
    [
        "\\boxed{9^{9^9}}", "\\boxed{9^{9^{9^{9}}}!}", "\\boxed{" + "(" * 3000 + ")" * 3000 + "}",
        "(" * 3000 + "1" + ")" * 3000, "\\sqrt{" * 2000, "\\boxed{" + "{" * 500 + "}" * 500 + "}",
        "\\boxed{\\ln " + "(" * 200 + "5" + ")" * 200 + "}", "\\boxed{" + "1" * 100_000 + "}",
        "\\boxed{(\\ln x+y+z)^{999}}", "\\boxed{99999!}", "x" * 1_000_000, "\ud800" * 1000,
        "[" * 1_000_000, "\n" * 100_000, "answer is " * 20_000, "\\boxed{__import__('os').abort()}",
        "\\boxed{" + "+".join(f"x_{{{n}}}" for n in range(300)) + "}", "\x00\x1b[31m",
    ],
)  # fmt: skip
def test_hostile_text_costs_little_and_is_never_correct(shared_pool: WorkerPool, completion: str):
    specs = [
        TWELVE,
        {"kind": "math", "answer": "\\ln 5"},
        {"kind": "schema", "schema": {"type": "object"}},
        {"kind": "choice", "answer": "A", "choices": ["12", "13"]},
    ]
    for verdict in shared_pool.judge_many([(spec, completion) for spec in specs]):
        assert verdict.status in ("wrong", "malformed")
        assert verdict.cpu_ms < 2_000


@given(
    st.lists(
        st.sampled_from(
            re.findall(
                r"\S+",
                r"\ln \sin \frac { } ( ) ^ _ x y 2 3 \int \sum_{k=1}^{5} = < , \sqrt \pi ! | + \cup"
                r" [ ] \{ \} \infty \lim_{x\to0} & \begin{matrix} \end{matrix} % \text{a}",
            )
        ),
        max_size=12,
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_latex_is_our_fault(shared_pool: WorkerPool, tokens: list[str]):
    verdict = shared_pool.judge(
        {"kind": "math", "answer": "\\ln 5"}, f"\\boxed{{{' '.join(tokens)}}}"
    )
    assert verdict.status != "infra_error", verdict


def test_a_completion_beyond_every_bound_is_malformed(shared_pool: WorkerPool):
    assert shared_pool.judge(TWELVE, "1" * (MAX_COMPLETION + 1)).status == "malformed"


def test_the_wall_deadline_counts_from_the_start_of_the_work():
    with WorkerPool(1, deadline_s=0.5) as pool:
        (stopped,) = pool.pids
        os.kill(stopped, signal.SIGSTOP)
        late, *queued = pool.judge_many([(TWELVE, "12")] * 20)
        assert (late.status, late.score) == ("timeout", 0.0)
        assert dict(late.evidence) == {"limit": "wall", "seconds": 0.5}
        assert {verdict.status for verdict in queued} == {"correct"}
        assert not running(stopped)
        assert pool.replaced == 1


def test_a_worker_killed_while_it_works_costs_no_verdict():
    with WorkerPool(1, deadline_s=20) as pool:
        (first,) = pool.pids
        os.kill(first, signal.SIGSTOP)
        future = pool.submit(TWELVE, "12")
        wait_until(future.running, "the job is handed out")
        os.kill(first, signal.SIGKILL)
        assert future.result(timeout=60).status == "correct"


def test_a_worker_killed_while_idle_costs_no_verdict():
    with WorkerPool(2) as pool:
        for _ in range(3):
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)
            assert {v.status for v in pool.judge_many([(TWELVE, "12")] * 4)} == {"correct"}


def test_a_job_whose_workers_die_twice_is_our_fault_and_has_no_score():
    with WorkerPool(1, deadline_s=60, cpu_s=60) as pool:
        future = pool.submit(*BURNING)
        for _ in range(2):
            wait_until(lambda: pool.busy == 1, "a worker is at the job")
            (pid,) = pool.pids
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in pool.pids, "the dead worker is replaced")
        verdict = future.result(timeout=60)
        assert (verdict.status, verdict.score) == ("infra_error", None)
        assert "SIGKILL" in verdict.evidence["reason"]
        assert pool.judge(TWELVE, "12").status == "correct"


def test_the_queue_is_bounded_and_waiting_callers_are_served():
    with WorkerPool(1, queue_size=2, deadline_s=60) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(TWELVE, "12") for _ in range(2)]
        wait_until(futures[0].running, "the first job is handed out")
        futures.append(pool.submit(TWELVE, "12"))
        blocked = threading.Thread(target=lambda: futures.append(pool.submit(TWELVE, "12")))
        blocked.start()
        blocked.join(timeout=0.3)
        assert blocked.is_alive()
        os.kill(pid, signal.SIGCONT)
        blocked.join(timeout=30)
        assert [future.result(timeout=30).status for future in futures] == ["correct"] * 4


def test_closing_ends_the_workers_and_tells_waiting_callers():
    pool = WorkerPool(2)
    pids = pool.pids
    futures = [pool.submit(*BURNING) for _ in range(5)]
    pool.close()
    pool.close()
    assert not any(running(pid) for pid in pids)
    for future in futures:
        with pytest.raises(PoolError, match="closed"):
            future.result(timeout=5)
    with pytest.raises(PoolError, match="closed"):
        pool.submit(TWELVE, "12")


def test_a_pool_leaves_no_descriptor_and_no_thread():
    # In a process of its own: what other tests left to the garbage collector goes at any moment.
    script = (
        "import os, threading\n"
        "from verifiers.pool import WorkerPool\n"
        "def held(): return len(os.listdir('/proc/self/fd')), threading.active_count()\n"
        "before = held()\n"
        "with WorkerPool(2) as pool:\n"
        f"    pool.judge_many([({TWELVE!r}, '12'), {BURNING!r}])\n"
        "    during = held()\n"
        "print(held() == before, during > before)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["True", "True"]


def test_workers_that_cannot_start_are_an_error_with_a_reason():
    with pytest.raises(PoolError, match=r"do not start .*64 MiB"):
        WorkerPool(1, memory=64 * 2**20)


def test_running_out_of_memory_is_the_candidates_fault_alone(shared_pool: WorkerPool):
    pages = int(Path(f"/proc/{shared_pool.pids[0]}/statm").read_text().split()[0])
    memory = pages * os.sysconf("SC_PAGE_SIZE") + 30 * 2**20
    members = ",".join(f'"{n}":{n}' for n in range(200_000))
    spec = {"kind": "schema", "schema": {"type": "object"}}
    assert shared_pool.judge(spec, f"{{{members}}}").status == "correct"
    with WorkerPool(1, memory=memory, cpu_s=20) as pool:
        large, small = pool.judge_many([(spec, f"{{{members}}}"), (spec, "{}")])
        assert (large.status, dict(large.evidence)) == ("timeout", {"limit": "memory"})
        assert small.status == "correct"


def test_workers_die_with_a_killed_parent():
    script = (
        "import os, sys\n"
        "from verifiers.pool import WorkerPool\n"
        "pool = WorkerPool(2, deadline_s=600, cpu_s=600)\n"
        f"pool.submit(*{BURNING!r})\n"
        "print(*pool.pids, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert all(running(pid) for pid in pids)
        parent.kill()
        parent.wait(timeout=10)
        wait_until(lambda: not any(running(pid) for pid in pids), "the workers end")
    assert len(pids) == 2


def test_workers_inherit_neither_environment_nor_descriptors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "x")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with WorkerPool(1) as pool:
            (pid,) = pool.pids
            assert b"SECRET_OF_THE_PARENT" not in Path(f"/proc/{pid}/environ").read_bytes()
            open_files = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            assert os.readlink(f"/proc/self/fd/{writer}") not in open_files
            assert len(os.listdir(f"/proc/{pid}/task")) == 1
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("module", ["verifiers.pool", "verifiers.spec", "verifiers.judge"])
def test_no_heavy_import_and_no_sympy_in_the_parent(module: str):
    script = (
        f"import sys, {module}\n"
        "print(*(m for m in ('torch', 'ray', 'sympy', 'math_verify', 'numpy') if m in sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == ""


def test_the_parent_never_imports_sympy_while_it_serves():
    script = (
        "import sys\n"
        "from verifiers.pool import WorkerPool\n"
        "with WorkerPool(1) as pool:\n"
        "    print(pool.judge({'kind': 'math', 'answer': r'\\ln 4'}, r'\\boxed{2\\ln 2}').status)\n"
        "print('sympy' in sys.modules)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["correct", "False"]


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers()), max_size=5), st.data())
def test_frames_survive_any_cut(messages: list[dict[str, object]], data: st.DataObject):
    stream = b"".join(wire.encode(message) for message in messages)
    decoder = wire.Decoder()
    decoded: list[dict[str, object]] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        decoded += decoder.feed(stream[:size])
        stream = stream[size:]
    assert decoded == messages


def test_a_frame_of_a_wild_length_is_refused():
    with pytest.raises(wire.WireError, match="allowed"):
        wire.Decoder().feed(b"\xff\xff\xff\xff")


def test_workers_killed_while_they_start_do_not_end_the_pool():
    with WorkerPool(1) as pool:
        killed: set[int] = set()
        deadline = time.monotonic() + 60
        while len(killed) < 6 and time.monotonic() < deadline:
            for pid in set(pool.pids) - killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        assert len(killed) == 6
        assert pool.judge({"kind": "math", "answer": "2"}, "2").status == "correct"
