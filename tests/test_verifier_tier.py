"""The shared verifier tier on a real Ray: nothing lost, nothing wrong, nothing left behind."""

import asyncio
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from ray.exceptions import RayActorError

from services.shared_verifiers import SharedVerifiers
from services.verifier_pools import PoolShape
from services.verifier_tier import NAMESPACE, VerifierTierFailed, start_tier
from tests.ray_cluster import local_ray
from trainer.records import Rollout
from verifiers.spec import SpecError

MATH = {"kind": "math", "answer": "12"}
SLOW = {
    "kind": "python",
    "source": "import time\ndef grade(sample, item):\n    time.sleep(0.2)\n    return 1",
}
NOTHING = np.zeros(1, np.int32)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with local_ray(cpus=8):
        yield


def shape(**changes: Any) -> PoolShape:
    return PoolShape(**{"cpus": 0.5, "labels": {}, "env": {}, "workers": 1, **changes})


def rollouts(*texts: str) -> Any:
    return ray.put(
        [Rollout(NOTHING, NOTHING, np.zeros(1, np.float32), text, 0, "stop") for text in texts]
    )


@asynccontextmanager
async def joined(of: PoolShape, **options: Any) -> AsyncIterator[SharedVerifiers]:
    options = {"least": 1, "most": 1, "deadline_s": 30.0, **options}
    verifiers = SharedVerifiers(of, **options)
    try:
        async with asyncio.timeout(120):
            await verifiers.start()
        yield verifiers
    finally:
        await verifiers.close(60)


async def pools(verifiers: SharedVerifiers) -> dict[str, Any]:
    tier: Any = ray.get_actor(verifiers.name, NAMESPACE)
    return await tier.pools.remote()


async def workers(verifiers: SharedVerifiers) -> list[int]:
    found: list[int] = []
    for actor in (await pools(verifiers)).values():
        with suppress(RayActorError):
            found += await actor.ready.remote()
    return found


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.05)


def is_gone(tier: str) -> bool:
    try:
        ray.get_actor(tier, NAMESPACE)
    except ValueError:
        return True
    return False


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(240):
            await work

    asyncio.run(bounded())


def test_jobs_share_one_tier_and_the_last_to_leave_ends_it(cluster: None) -> None:
    told: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = []

    async def tell(tier: str, counts: Mapping[str, float], moment: Mapping[str, float]) -> None:
        told.append((tier, counts, moment))

    async def work() -> None:
        async with joined(shape(), tell=tell) as first:
            async with joined(shape(), tell=tell) as second:
                assert first.name == second.name
                processes = [psutil.Process(pid) for pid in await workers(first)]
                assert len(processes) == 1, "one pool of one worker serves both"
                for job in (first, second):
                    verdicts, summary = await job.judge(MATH, rollouts("It is 12.", "13"), 2)
                    assert summary == [(1.0, "correct"), (0.0, "wrong")]
                    assert [v.status for v in ray.get(verdicts)] == ["correct", "wrong"]
                with pytest.raises(SpecError, match="answer"):
                    await first.judge({"kind": "math"}, rollouts("12"), 1)
            assert (await first.judge(MATH, rollouts("12"), 1))[1] == [(1.0, "correct")]
        assert is_gone(first.name)
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []
        counted: dict[str, float] = {}
        for _, counts, _ in told:
            for field, number in counts.items():
                counted[field] = counted.get(field, 0.0) + number
        assert counted["verdicts|math|correct"] == 3
        assert counted["verdicts|math|wrong"] == 2
        assert sum(n for field, n in counted.items() if field.startswith("bucket|math|")) == 5
        assert told[-1] == (first.name, told[-1][1], {}), "a tier that ended has no numbers"

    run(work())


def test_killed_workers_and_pools_lose_nothing_and_make_nothing_wrong(cluster: None) -> None:
    replaced: dict[str, float] = {"replaced|pool|": 0, "replaced|worker|": 0}

    async def tell(tier: str, counts: Mapping[str, float], moment: Mapping[str, float]) -> None:
        for field in replaced:
            replaced[field] += counts.get(field, 0.0)

    async def work() -> None:
        chance = random.Random(7)
        async with joined(shape(workers=2), least=2, most=2, tell=tell) as job:
            answers = [[chance.random() < 0.5 for _ in range(6)] for _ in range(150)]
            done = 0

            async def judged(right: list[bool]) -> bool:
                nonlocal done
                texts = [f"The answer is {12 if r else 13}." for r in right]
                verdicts, summary = await job.judge(MATH, rollouts(*texts), len(texts))
                scores = [verdict.score for verdict in await verdicts]
                done += 1
                return scores == [float(r) for r in right] == [score for score, _ in summary]

            async def kill() -> None:
                for round in range(6):
                    target = (round + 1) * len(answers) // 8
                    while done < target:
                        await asyncio.sleep(0.005)
                    if round % 3 == 2:
                        ray.kill(chance.choice(list((await pools(job)).values())))
                    else:
                        for pid in (await workers(job))[:2]:
                            with suppress(ProcessLookupError):
                                os.kill(pid, signal.SIGKILL)

            killing = asyncio.create_task(kill())
            right = await asyncio.gather(*(judged(right) for right in answers))
            await killing
            assert right == [True] * len(answers)

            async def both() -> bool:
                return len(await pools(job)) == 2

            await until(both)  # what was killed was replaced
        assert replaced["replaced|pool|"] >= 2
        assert replaced["replaced|worker|"] > 0

    run(work())


def test_a_job_goes_on_when_the_tier_itself_is_killed(cluster: None) -> None:
    async def work() -> None:
        async with joined(shape()) as job:
            before = [psutil.Process(pid) for pid in await workers(job)]
            groups = [asyncio.create_task(job.judge(MATH, rollouts("12", "13"), 2)) for _ in "abc"]
            ray.kill(ray.get_actor(job.name, NAMESPACE))
            for group in groups:
                assert (await group)[1] == [(1.0, "correct"), (0.0, "wrong")]
            _, alive = psutil.wait_procs(before, timeout=30)
            assert alive == [], "the pools of a tier that died are gone"
        assert is_gone(job.name)

    run(work())


@pytest.mark.parametrize("frozen", ["ray::VerifierPool", "ray::VerifierTier"])
def test_a_job_goes_on_when_a_pool_or_the_tier_stands_still(cluster: None, frozen: str) -> None:
    async def work() -> None:
        async with joined(shape(answer_s=1.0, silences=3)) as job:
            (pool,) = (await pools(job)).values()
            raylet = psutil.Process((await pool.observe.remote()).pid).parent()
            assert raylet is not None
            before = [p for p in raylet.children() if " ".join(p.cmdline()).startswith(frozen)]
            for process in before:
                process.suspend()
            groups = [asyncio.create_task(job.judge(MATH, rollouts("12", "13"), 2)) for _ in "abc"]
            for group in groups:
                assert (await group)[1] == [(1.0, "correct"), (0.0, "wrong")]
            _, alive = psutil.wait_procs(before, timeout=60)
            assert alive == [], "what stood still was killed"

    run(work())


class Grader(ThreadingHTTPServer):
    """Fails a number of times, then says 1; remembers the parent process of each who asked."""

    daemon_threads = True

    def __init__(self, failures: int) -> None:
        self.failures, self.pools = failures, list[int]()
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Grader  # type: ignore[assignment]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        ends = (self.client_address[1], self.server.server_port)
        # Another connection may have the same port of ours, at another server.
        (asker,) = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.laddr
            and connection.raddr
            and (connection.laddr.port, connection.raddr.port) == ends
        }
        assert asker is not None
        self.server.pools.append(psutil.Process(asker).ppid())
        body = b'{"score": 1}'
        self.send_response(500 if len(self.server.pools) <= self.server.failures else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.mark.parametrize(("failures", "status"), [(1, "correct"), (100, "infra_error")])
def test_a_fault_of_ours_is_tried_once_more_in_another_pool(
    cluster: None, failures: int, status: str
) -> None:
    env = {"STROP_GRADER_SECRET_TEAM": "key", "STROP_GRADER_ALLOW": "127.0.0.1"}

    async def work(server: Grader) -> None:
        url = f"http://127.0.0.1:{server.server_port}/"
        spec = {"kind": "remote", "url": url, "secret": "team", "retries": 0}
        async with joined(shape(env=env), least=2, most=2) as job:
            verdicts, summary = await job.judge(spec, rollouts("12"), 1)
            assert [s for _, s in summary] == [status] == [v.status for v in await verdicts]
            assert len(server.pools) == len(set(server.pools)) == 2

    with Grader(failures) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            run(work(server))
        finally:
            server.shutdown()
            thread.join(10)


def test_a_job_that_falls_silent_is_forgotten_and_the_tier_ends(cluster: None) -> None:
    async def work() -> None:
        tier = start_tier(shape(), life_s=10.0, name="silent", lifetime="detached")
        await tier.join.remote("job", 1, 1)
        ready = asyncio.ensure_future(tier.ready.remote("job"))
        while not (await asyncio.wait({ready}, timeout=1.0))[0]:
            await tier.renew.remote("job")  # a pool may take longer to start than a job to die
        await ready
        (actor,) = (await tier.pools.remote()).values()
        processes = [psutil.Process(pid) for pid in await actor.ready.remote()]
        with pytest.raises(RayActorError):
            await _death(tier)
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []

    run(work())


async def _death(tier: Any) -> None:
    while True:
        await tier.pools.remote()
        await asyncio.sleep(0.1)


def test_pools_that_do_not_start_are_one_clear_error(cluster: None) -> None:
    async def work() -> None:
        job = SharedVerifiers(shape(cpus=100, start_s=1.0), least=1, most=1, deadline_s=10)
        try:
            with pytest.raises(VerifierTierFailed, match="none is up within 1 s; has a node 100"):
                await job.start()
        finally:
            await job.close(30)
        assert is_gone(job.name)

    run(work())


def test_a_job_with_much_to_judge_does_not_hold_up_another(cluster: None) -> None:
    async def work() -> None:
        async with joined(shape()) as greedy, joined(shape()) as modest:
            much = [asyncio.create_task(greedy.judge(SLOW, rollouts("a"), 16)) for _ in range(40)]
            await much[0]  # by now all of them are queued
            assert (await modest.judge(SLOW, rollouts("a"), 16))[1] == [(1.0, "correct")]
            assert sum(group.done() for group in much) < len(much) // 2
            assert [(await group)[1] for group in much] == [[(1.0, "correct")]] * len(much)

    run(work())


def test_a_tier_grows_while_much_waits(cluster: None) -> None:
    async def work() -> None:
        async with joined(shape(), least=1, most=2) as job:
            groups = [asyncio.create_task(job.judge(SLOW, rollouts(*"abcd"), 4)) for _ in range(48)]

            async def grown() -> bool:
                return len(await pools(job)) == 2

            await until(grown)
            for group in groups:
                assert (await group)[1] == [(1.0, "correct")] * 4

    run(work())
