"""The learner group: Ray Train workers that obey commands, in lock-step.

Ray Train places the workers and sets up torch.distributed; each then builds one worker
object and calls the methods it is told to, with the same arguments on every rank. A rank says
from time to time how far it is. A group whose rank is lost is lost as a whole: its owner makes
another. The group knows nothing of what the methods do. The only room of the trainer that
meets Ray.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError

# How long a worker waits for a command before it asks again; an idle group costs one
# small message per rank and interval.
POLL_SECONDS = 20.0
BEAT_SECONDS = 2.0


Letter = list[ray.ObjectRef] | None
"""A reference to what is said, in a list, so that who carries it need not read it: reading a job's
records takes the imports of the whole trainer. None is said as it is."""


class GroupFailed(RuntimeError):
    """A worker of the group raised; the message carries its reason, `kind` the error's name."""

    kind = ""


class GroupLost(GroupFailed):
    """A rank is gone, or what it met is not of its own making: another group may do better."""


@dataclass(frozen=True, slots=True)
class RankBeat:
    """A sign of life: a counter that grows while the rank works, and where it lives."""

    progress: int
    pid: int
    node: str


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a method raised on a rank, as words; and whether another group may do better."""

    kind: str
    reason: str
    mendable: bool


class Worker(Protocol):
    """What a rank builds: any object whose methods are called by name. `close` ends it."""

    def progress(self) -> int:
        """A counter that grows while the worker works; asked from another thread."""
        ...

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
    """Commands in, answers and signs of life out. One async actor per group."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._commands: list[Letter] = []
        self._answers: list[dict[int, Letter]] = []
        self._raised: _Raised | None = None
        self._changed = asyncio.Condition()
        self._actors: dict[int, Any] = {}
        self._beats: dict[int, RankBeat] = {}

    async def post(self, command: Letter, timeout: float) -> list[Letter] | _Raised:
        """Give every rank a command and wait for all answers, in rank order, or an error.

        A command is a method's name and its arguments, by place and by name.
        """
        async with self._changed:
            number = len(self._commands)
            self._commands.append(command)
            self._answers.append({})
            self._changed.notify_all()

            def settled() -> bool:
                return self._raised is not None or len(self._answers[number]) == self._workers

            await asyncio.wait_for(self._changed.wait_for(settled), timeout)
            if self._raised is not None:
                return self._raised
            self._commands[number] = None  # every rank has it: drop the references it carried
            answers, self._answers[number] = self._answers[number], {}
        return [answers[rank] for rank in sorted(answers)]

    async def take(self, number: int) -> Letter:
        """Command `number`, or None when none came within the poll interval."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: len(self._commands) > number), POLL_SECONDS
                )
            except TimeoutError:
                return None
            return self._commands[number]

    async def answer(self, number: int, rank: int, value: Letter) -> None:
        """A rank's answer to command `number`."""
        async with self._changed:
            self._answers[number][rank] = value
            self._changed.notify_all()

    async def fail(self, raised: _Raised) -> None:
        """A rank raised; the first to say so is heard."""
        async with self._changed:
            self._raised = self._raised or raised
            self._changed.notify_all()

    async def enter(self, rank: int, actor: Any) -> None:
        """A rank has begun, in this actor of Ray Train's."""
        self._actors[rank] = actor

    async def beat(self, rank: int, beat: RankBeat) -> None:
        """A rank lives."""
        self._beats[rank] = beat

    async def beats(self) -> dict[int, RankBeat]:
        """What each rank said since it was last asked; a rank that said nothing is absent."""
        beats, self._beats = self._beats, {}
        return beats

    async def end_ranks(self) -> int:
        """Kill the ranks; how many had begun."""
        for actor in self._actors.values():
            ray.kill(actor)
        return len(self._actors)


def _obey(loop_config: dict[str, Any]) -> None:
    """What Ray Train runs on each rank: build the worker, then one command after another."""
    import ray.train

    mailbox = loop_config["mailbox"]
    rank = ray.train.get_context().get_world_rank()
    ended = threading.Event()
    try:
        here = ray.get_runtime_context()
        ray.get(mailbox.enter.remote(rank, here.current_actor), timeout=POLL_SECONDS)
        build, config = cloudpickle.loads(loop_config["worker"])
        worker: Worker = build(config)
        arguments = (mailbox, rank, worker, here.get_node_id(), ended)
        threading.Thread(target=_beat, args=arguments, daemon=True).start()
        _serve(mailbox, rank, worker)
    except Exception as error:
        kind = type(error).__name__
        raised = _Raised(kind, f"rank {rank}: {kind}: {error}", _mendable(error))
        ray.get(mailbox.fail.remote(raised), timeout=POLL_SECONDS)
        raise
    finally:
        ended.set()


def _serve(mailbox: Any, rank: int, worker: Worker) -> None:
    number = 0
    while True:
        command = ray.get(mailbox.take.remote(number), timeout=4 * POLL_SECONDS)
        if command is None:
            continue
        method, args, options = ray.get(command[0], timeout=4 * POLL_SECONDS)
        value = getattr(worker, method)(*args, **options)
        letter = None if value is None else [ray.put(value)]
        ray.get(mailbox.answer.remote(number, rank, letter), timeout=POLL_SECONDS)
        if method == "close":
            return
        number += 1


def _beat(mailbox: Any, rank: int, worker: Worker, node: str, ended: threading.Event) -> None:
    pid = os.getpid()
    while not ended.wait(BEAT_SECONDS):
        mailbox.beat.remote(rank, RankBeat(worker.progress(), pid, node))


def _mendable(error: Exception) -> bool:
    """Whether an error comes from the world around: a lost object or peer, no memory, no disk.

    torch tells of a lost peer and of full memory by RuntimeErrors, whose subclasses of ours
    tell of the job itself.
    """
    kind = type(error)
    return (
        isinstance(error, (RayError, OSError, MemoryError))
        or kind is RuntimeError
        or kind.__module__.partition(".")[0] == "torch"
    )


class LearnerGroup:
    """A group of data-parallel workers, alive until `close`."""

    def __init__(
        self, build: Callable[[Any], Worker], config: Any, placement: Placement, storage: str
    ) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        # A process that nobody here listens to: a rank that is lost is made anew, for any reason.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0).remote(placement.workers)
        resources: dict[str, float] = {"CPU": placement.cpus}
        if placement.gpus:
            resources["GPU"] = placement.gpus
        self._trainer = TorchTrainer(
            _obey,
            train_loop_config={
                "mailbox": self._mailbox,
                # As bytes: Ray Train's controller would import what only the ranks need.
                "worker": cloudpickle.dumps((build, config)),  # pyright: ignore[reportPrivateImportUsage]
            },
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

        Raises GroupLost when a rank is lost, and GroupFailed when one raises or `timeout`
        seconds pass.
        """
        command = [ray.put((method, args, options))]
        posted = self._mailbox.post.remote(command, timeout)
        reply = asyncio.ensure_future(asyncio.wrap_future(posted.future()))
        try:
            while not reply.done():
                await asyncio.wait({reply}, timeout=0.5)
                if self._ended.is_set() and not reply.done():
                    raise GroupLost(f"{method!r}: {self._reason()}") from self._failure
            answers = reply.result()
            if isinstance(answers, list):
                async with asyncio.timeout(timeout):
                    answers = [None if said is None else await said[0] for said in answers]
        except TimeoutError as error:
            raise GroupFailed(
                f"trainer group did not finish {method!r} in {timeout:.0f} s"
            ) from error
        except RayError as error:
            raise GroupLost(f"{method!r}: the group is lost: {error}") from error
        finally:
            reply.cancel()
        if isinstance(answers, _Raised):
            failure = GroupLost if answers.mendable else GroupFailed
            raised = failure(f"trainer group ended during {method!r}: {answers.reason}")
            raised.kind = answers.kind
            raise raised
        return answers

    def _reason(self) -> str:
        failures = getattr(self._failure, "worker_failures", None)
        if failures:
            rank, error = next(iter(failures.items()))
            error = getattr(error, "health_check_failure", error)
            # Ray's own words for it fill a page.
            said = "its process died" if isinstance(error, RayActorError) else error
            return f"rank {rank}: {said}"
        return str(self._failure) if self._failure else "its workers returned"

    async def beats(self) -> dict[int, RankBeat]:
        """What each rank said since it was last asked. Raises GroupLost."""
        try:
            return await self._mailbox.beats.remote()
        except RayError as error:
            raise GroupLost(f"the group's mailbox is lost: {error}") from error

    async def abort(self, timeout: float = 60.0) -> None:
        """Kill the ranks and wait until their places are free again, as far as it takes `timeout`.

        A group that has not begun yet ends with its owner.
        """
        try:
            async with asyncio.timeout(timeout):
                begun = await self._mailbox.end_ranks.remote()
        except (RayError, TimeoutError):
            begun = 0
        if begun:
            await asyncio.to_thread(self._ended.wait, timeout)
        ray.kill(self._mailbox)

    async def close(self, timeout: float = 30.0) -> None:
        """End the workers and Ray Train's run; what does not end in time is killed."""
        if not self._ended.is_set():
            try:
                await self.call("close", timeout=timeout)
            except GroupFailed:
                await self.abort(timeout)
                return
            await asyncio.to_thread(self._ended.wait, timeout)
        ray.kill(self._mailbox)
