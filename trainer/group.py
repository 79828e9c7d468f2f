"""The learner group: Ray Train workers that obey commands, in lock-step.

Ray Train places the workers and sets up torch.distributed; each then builds one worker
object and calls the methods it is told to, with the same arguments on every rank. The group
knows nothing of what those methods do. The only room of the trainer that meets Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray

# How long a worker waits for a command before it asks again; an idle group costs one
# small message per rank and interval.
POLL_SECONDS = 20.0


Command = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A method's name and its arguments, by place and by name."""


class GroupFailed(RuntimeError):
    """A worker of the group raised, or Ray lost it; the message carries its reason."""


class Worker(Protocol):
    """What a rank builds: any object whose methods are called by name. `close` ends it."""

    def close(self) -> None:
        """Free what the worker holds."""
        ...


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how wide: `env` is set before each worker process starts."""

    workers: int
    cpus: float
    gpus: float = 0.0
    labels: dict[str, str] = field(default_factory=dict[str, str])
    env: dict[str, str] = field(default_factory=dict[str, str])


class Mailbox:
    """Commands in, answers out. One async actor per group."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._commands: list[Command] = []
        self._answers: list[dict[int, Any]] = []
        self._changed = asyncio.Condition()

    async def post(self, command: Command, timeout: float) -> list[Any]:
        """Give every rank a command and wait for all answers, in rank order."""
        async with self._changed:
            number = len(self._commands)
            self._commands.append(command)
            self._answers.append({})
            self._changed.notify_all()
            await asyncio.wait_for(
                self._changed.wait_for(lambda: len(self._answers[number]) == self._workers), timeout
            )
            self._commands[number] = (command[0], (), {})  # drop the references a command carried
            answers, self._answers[number] = self._answers[number], {}
        return [answers[rank] for rank in sorted(answers)]

    async def take(self, number: int) -> Command | None:
        """Command `number`, or None when none came within the poll interval."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: len(self._commands) > number), POLL_SECONDS
                )
            except TimeoutError:
                return None
            return self._commands[number]

    async def answer(self, number: int, rank: int, value: Any) -> None:
        """A rank's answer to command `number`."""
        async with self._changed:
            self._answers[number][rank] = value
            self._changed.notify_all()


def _obey(loop_config: dict[str, Any]) -> None:
    """What Ray Train runs on each rank: build the worker, then one command after another."""
    import ray.train

    mailbox = loop_config["mailbox"]
    rank = ray.train.get_context().get_world_rank()
    worker: Worker = loop_config["build"](loop_config["config"])
    number = 0
    while True:
        command = ray.get(mailbox.take.remote(number), timeout=4 * POLL_SECONDS)
        if command is None:
            continue
        method, args, options = command
        if method == "close":
            worker.close()
            ray.get(mailbox.answer.remote(number, rank, None), timeout=POLL_SECONDS)
            return
        value = getattr(worker, method)(*args, **options)
        ray.get(mailbox.answer.remote(number, rank, value), timeout=POLL_SECONDS)
        number += 1


class LearnerGroup:
    """A group of data-parallel workers, alive until `close`."""

    def __init__(
        self, build: Callable[[Any], Worker], config: Any, placement: Placement, storage: str
    ) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0).remote(placement.workers)
        resources: dict[str, float] = {"CPU": placement.cpus}
        if placement.gpus:
            resources["GPU"] = placement.gpus
        self._trainer = TorchTrainer(
            _obey,
            train_loop_config={"mailbox": self._mailbox, "build": build, "config": config},
            scaling_config=ScalingConfig(
                num_workers=placement.workers,
                use_gpu=placement.gpus > 0,
                resources_per_worker=resources,
                label_selector=placement.labels or None,
            ),
            run_config=RunConfig(
                name="trainer",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=0),
                worker_runtime_env={"env_vars": placement.env},
            ),
        )
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._failure = error
        finally:
            self._ended.set()

    async def call(self, method: str, *args: Any, timeout: float, **options: Any) -> list[Any]:
        """Call a method on every rank; the answers in rank order.

        Raises GroupFailed when a rank raises or is lost, and when `timeout` seconds pass.
        """
        posted = self._mailbox.post.remote((method, args, options), timeout)
        reply = asyncio.ensure_future(asyncio.wrap_future(posted.future()))
        try:
            while not reply.done():
                await asyncio.wait({reply}, timeout=0.5)
                if self._ended.is_set() and not reply.done():
                    raise GroupFailed(
                        f"trainer group ended during {method!r}: {self._reason()}"
                    ) from self._failure
            return reply.result()
        except TimeoutError as error:
            raise GroupFailed(
                f"trainer group did not finish {method!r} in {timeout:.0f} s"
            ) from error
        finally:
            reply.cancel()

    def _reason(self) -> str:
        failures = getattr(self._failure, "worker_failures", None)
        if failures:
            rank, error = next(iter(failures.items()))
            return f"rank {rank}: {error}"
        return str(self._failure) if self._failure else "its workers returned"

    async def close(self, timeout: float = 30.0) -> None:
        """End the workers and Ray Train's run; what does not end in time is killed with the job."""
        if not self._ended.is_set():
            # A group that fails while it is told to close has ended all the same.
            with contextlib.suppress(GroupFailed):
                await self.call("close", timeout=timeout)
            await asyncio.to_thread(self._ended.wait, timeout)
        ray.kill(self._mailbox)
