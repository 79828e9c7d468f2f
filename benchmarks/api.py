"""What the API costs: requests per second and latency with many jobs, followers, one event.

A real API process over a real Valkey, asked over loopback by one client process. Its peer is
measured in the same run, in turns: a bare FastAPI route that does one Redis GET, on the same
uvicorn, which is the most that any such service could do. All share the machine's cores.

    python benchmarks/api.py [--jobs 10000] [--requests 600] [--clients 8] [--followers 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

# Beside this file lies verifiers.py, which would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import httpx
import psutil
import redis.asyncio
import uvicorn
from fastapi import FastAPI

from services.config import JobSpec
from services.key_store import KeyStore
from services.processes import spawn, stop
from services.redis_server import EmbeddedValkey
from services.store import Store

JOBS = "/v1/fine_tuning/jobs"
ROUNDS = 3
DEADLINE = 120.0


def peer(url: str) -> FastAPI:
    """The least that a service with a store can do."""
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    app = FastAPI()

    @app.get("/get")
    async def get() -> dict[str, Any]:
        return {"value": await client.get("bench")}

    return app


@contextmanager
def serving(command: list[str], health: str, log: Path, **env: str) -> Iterator[tuple[str, int]]:
    """The url and process id of a server that was started on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        process = spawn(
            [*command, "--fd", str(fd)], log=log, env={**os.environ, **env}, pass_fds=[fd]
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        until = time.monotonic() + DEADLINE
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command} did not start:\n{log.read_text()}")
            try:
                if httpx.get(url + health, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url, process.pid
    finally:
        stop(process, deadline=10)


async def fill(store: Store, task_file: Path, count: int) -> list[str]:
    """Store this many jobs, most of them ended."""
    asked = {"model": {"path": "smollm2-135m-instruct"}, "tasks": {"train": str(task_file)}}
    spec = JobSpec.model_validate(asked).model_dump(mode="json")
    ids: list[str] = []
    for start in range(0, count, 50):
        made = await asyncio.gather(
            *(
                store.create_job(spec, metadata={"n": str(n)})
                for n in range(start, min(start + 50, count))
            )
        )
        ids += [job.id for job in made]
        await asyncio.gather(*(store.request_cancel(job.id) for job in made if job.id[-1] != "0"))
    return ids


async def timed(
    request: Callable[[], Awaitable[httpx.Response]], total: int, clients: int
) -> tuple[float, list[float]]:
    """Requests per second and the seconds of each, with so many clients at a time."""
    seconds: list[float] = []
    left = total

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            (await request()).raise_for_status()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return total / (time.perf_counter() - began), seconds


def row(
    name: str, runs: list[tuple[float, list[float]]], peers: list[tuple[float, list[float]]]
) -> str:
    """One line of the table: medians over the rounds, the ratio against the peer of each round."""
    rate = statistics.median(rate for rate, _ in runs)
    times = sorted(second for _, seconds in runs for second in seconds)
    ratio = statistics.median(own / other for (own, _), (other, _) in zip(runs, peers, strict=True))
    p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3
    return f"| {name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {ratio:.2f} |"


async def requests(
    api: str, bare: str, key: str, ids: list[str], body: Any, arguments: Any
) -> None:
    """Print the table of requests."""
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=arguments.clients)
    async with (
        httpx.AsyncClient(base_url=api, headers=headers, timeout=DEADLINE, limits=limits) as client,
        httpx.AsyncClient(base_url=bare, timeout=DEADLINE, limits=limits) as other,
    ):
        each = iter(ids * 1000)
        after = ids[len(ids) // 2]
        asked: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
            "peer: one Redis GET": lambda: other.get("/get"),
            "get a job": lambda: client.get(f"{JOBS}/{next(each)}"),
            "list 20 jobs from the middle": lambda: client.get(JOBS, params={"after": after}),
            "create a job": lambda: client.post(JOBS, json=body),
        }
        runs: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in asked}
        for request in asked.values():
            await timed(request, 50, arguments.clients)  # warm
        for _ in range(ROUNDS):
            for name, request in asked.items():
                runs[name].append(await timed(request, arguments.requests, arguments.clients))
    print(f"| {len(ids):,} jobs stored | requests/s | p50 ms | p99 ms | of the peer's rate |")
    print("|---|---|---|---|---|")
    peers = runs["peer: one Redis GET"]
    for name, found in runs.items():
        print(row(name, found, peers))


@asynccontextmanager
async def followers(api: str, key: str, job_id: str, count: int) -> AsyncIterator[list[int]]:
    """So many streams of one job that are open; a counter of the events each has seen."""
    port = httpx.URL(api).port
    seen = [0] * count
    opened: list[asyncio.StreamWriter] = []
    readers: list[asyncio.Task[None]] = []
    request = (
        f"GET {JOBS}/{job_id}/events?stream=true HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()

    async def read(index: int, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            seen[index] += line.startswith(b"id: ")

    try:
        for index in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append(writer)
            writer.write(request)
            readers.append(asyncio.create_task(read(index, reader)))
        yield seen
    finally:
        for task in readers:
            task.cancel()
        for writer in opened:
            writer.close()


async def until(reached: Callable[[], bool]) -> None:
    """Wait for it, with a deadline."""
    async with asyncio.timeout(DEADLINE):
        while not reached():
            await asyncio.sleep(0.001)


async def events(store: Store, api: str, pid: int, key: str, job_id: str, count: int) -> None:
    """Print what followers and events cost."""
    process = psutil.Process(pid)
    number = 100
    began = time.perf_counter()
    for n in range(number):
        await store.append_event(job_id, message=f"step {n}", data={"kind": "step", "step": n})
    append = (time.perf_counter() - began) / number
    before = process.memory_info().rss
    already = number + 1
    async with followers(api, key, job_id, count) as seen:
        await until(lambda: min(seen) == already)
        each = (process.memory_info().rss - before) / count
        connections = int((await store.link.ask("INFO", "clients"))["connected_clients"])
        cpu = sum(process.cpu_times()[:2])
        waits: list[float] = []
        for n in range(number):
            began = time.perf_counter()
            await store.append_event(job_id, message=f"step {n}")
            await until(lambda wanted=already + n + 1: min(seen) >= wanted)  # type: ignore[misc]
            waits.append(time.perf_counter() - began)
        cpu = (sum(process.cpu_times()[:2]) - cpu) / number
    print(f"\n| {count} followers of one job | |\n|---|---|")
    print(f"| memory of a follower, API process | {each / 1024:.0f} KiB |")
    print(f"| connections to the store, of everybody | {connections} |")
    print(f"| appending an event | {append * 1e3:.2f} ms |")
    waits.sort()
    print(
        f"| an event at all followers, p50 / p99 | {waits[number // 2] * 1e3:.1f} / {waits[-2] * 1e3:.1f} ms |"
    )
    print(f"| CPU of the API for it | {cpu * 1e3:.1f} ms, {cpu / count * 1e6:.0f} us a follower |")


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Start everything, and print every table."""
    task = {"prompt": "1 + 1 = ?", "verifier": {"kind": "math", "answer": "2"}}
    task_file = folder / "tasks.jsonl"
    task_file.write_text(json.dumps(task) + "\n")
    body = {
        "training_file": str(task_file),
        "model": "smollm2-135m-instruct",
        "method": {"type": "strop", "strop": {"algorithm": {"kind": "grpo"}}},
    }
    with EmbeddedValkey.start(folder / "valkey") as server:
        store = await Store.open(server.url)
        key = (await KeyStore(store.link).create("bench", scopes=["admin"])).token
        ids = await fill(store, task_file, arguments.jobs)
        env = {
            "STROP_HOME": str(folder),
            "STROP_REDIS_URL": server.url,
            "STROP_DATA_ROOTS": str(folder),
            "STROP_LIMIT_REQUESTS": "1000000/second",
            "STROP_LIMIT_OPEN_JOBS": "1000000",
        }
        ours = [sys.executable, "-m", "services.api"]
        bare = [sys.executable, __file__, "--peer", server.url]
        with (
            serving(ours, "/readyz", folder / "api.log", **env) as (api, pid),
            serving(bare, "/get", folder / "peer.log") as (other, _),
        ):
            await requests(api, other, key, ids, body, arguments)
            job = await store.get_job(ids[-1])
            await events(store, api, pid, key, job.id, arguments.followers)
        await store.close()


def main() -> None:
    """Measure, or be the peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=600, help="requests of one round")
    parser.add_argument("--clients", type=int, default=8, help="requests at a time")
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        uvicorn.run(peer(arguments.peer), fd=arguments.fd, log_level="warning")
        return
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as folder:
        asyncio.run(measure(arguments, Path(folder)))


if __name__ == "__main__":
    main()
