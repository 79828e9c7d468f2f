"""`strop probe`: what a job's tasks, model and hint are worth, before any training."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.commands import AsJson, JobFile, app
from services.config import JobSpec
from services.errors import CannotStart, StropError
from services.job_files import load_job
from services.settings import Settings, load_settings

_READY_SECONDS = 180.0
_STYLES = {"stop": "bold red", "warn": "yellow", "note": "green"}


class CannotProbe(StropError):
    """The job cannot run as it is, or its tiers failed."""

    code = "cannot_probe"


@app.command()
def probe(
    job_file: JobFile,
    tasks: Annotated[
        int, typer.Option("--tasks", "-n", min=1, help="Training tasks sampled.")
    ] = 32,
    as_json: AsJson = False,
) -> None:
    """Measure a sample of a job's tasks before any training, and say what it means.

    Exit status 1 when training would be in vain as it is, 2 when the job cannot run.
    """
    job = load_job(job_file)
    settings = load_settings()
    notes = Console(stderr=True, soft_wrap=True, highlight=False)

    def tell(line: str) -> None:
        notes.print(line, style="dim", markup=False)

    with _stopped_like_ctrl_c():
        try:
            numbers = _measured(job, settings, tasks, tell)
        except KeyboardInterrupt:
            tell("interrupted; nothing is left running")
            sys.exit(130)
    if as_json:
        print(json.dumps(numbers, ensure_ascii=False), flush=True)
    else:
        _show(numbers)
    sys.exit(1 if any(finding["level"] == "stop" for finding in numbers["findings"]) else 0)


def _measured(job: JobSpec, settings: Settings, count: int, tell: Any) -> dict[str, Any]:
    """Everything that `--json` prints. Raises CannotProbe or CannotStart."""
    from services.preparation import prepare
    from services.probe_digest import digest
    from services.probe_words import findings
    from trainer.dataset import TaskOrder
    from trainer.model_files import ModelError

    try:
        tell("checking the job")
        ready = prepare(job)
    except (ValueError, ModelError) as error:
        raise CannotProbe(str(error)) from error
    for note in ready.notes:
        tell(note)
    order = TaskOrder(len(ready.tasks), job.seed, job.tasks.shuffle)
    chosen = [ready.tasks[index] for index in order.take(min(count, len(ready.tasks)))]
    with (
        tempfile.TemporaryDirectory(prefix="strop-probe-") as scratch,
        _cluster(settings, Path(scratch), tell) as address,
    ):
        sample = asyncio.run(_on_cluster(address, job, ready, chosen, Path(scratch), tell))
    numbers = digest(job, sample, holdout=len(ready.holdout))
    numbers["notes"] = list(ready.notes)
    said = findings(
        numbers, kind=job.algorithm.kind, needs_contrast=job.needs_contrast, alarm=job.leakage.alarm
    )
    numbers["findings"] = [asdict(finding) for finding in said]
    return numbers


async def _on_cluster(
    address: str, job: JobSpec, ready: Any, tasks: Any, folder: Path, tell: Any
) -> Any:
    """Connect, probe, and disconnect. Ray is imported only now: it reads its token at import."""
    import logging

    import ray
    from ray.exceptions import RayError

    from services.probe import probe as run
    from services.tiers import TierFailed
    from trainer.group import GroupFailed

    def connect() -> None:
        ray.init(
            address=address, namespace="strop", logging_level=logging.ERROR, log_to_driver=False
        )

    # Outside of the main thread, where Ray would take over our SIGTERM.
    await asyncio.to_thread(connect)
    # Its C++ half took it all the same, and would abort: put ours back in its place.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    try:
        return await run(job, ready, tasks, folder, tell)
    except (TierFailed, GroupFailed, RayError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise CannotProbe(f"the tiers failed: {lines[-1].strip() if lines else error}") from error
    finally:
        ray.shutdown()


@contextmanager
def _cluster(settings: Settings, scratch: Path, tell: Any) -> Iterator[str]:
    """The address of STROP_RAY_ADDRESS, or of a Ray of our own for the time of the block."""
    if settings.ray_address is not None:
        yield settings.ray_address
        return
    from services.local_ray import LocalRay
    from services.private_files import make_private_folder
    from services.processes import Family

    own = settings.model_copy(update={"home": scratch, "metrics_port": 0})
    make_private_folder(own.logs_folder)
    family = Family(secrets.token_hex(8))
    tell("starting Ray")
    head = LocalRay.start(own, family, own.metrics_port)
    try:
        deadline = monotonic() + _READY_SECONDS
        while head.address is None:
            if head.process.poll() is not None or monotonic() > deadline:
                log = head.log.read_text(encoding="utf-8", errors="replace").strip()
                raise CannotStart(f"Ray did not start: {log.splitlines()[-1] if log else 'no log'}")
            sleep(0.1)
        os.environ |= head.environment()
        yield head.address
    finally:
        head.stop(family, scratch / "ray-logs", deadline=20)


@contextmanager
def _stopped_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up after itself."""

    def interrupt(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(numbers: Mapping[str, Any]) -> None:
    """The table, and the findings in words."""
    console = Console(soft_wrap=True, highlight=False)
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for name, value in _rows(numbers):
        table.add_row(name, value)
    console.print(table)
    console.print()
    for finding in numbers["findings"]:
        console.print(f"{finding['level']:<5}", style=_STYLES[finding["level"]], end=" ")
        console.print(finding["message"], markup=False)


def _rows(numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    low, high = numbers["pass_rate_interval"]
    yield "sampled", f"{numbers['completions']} completions of {numbers['tasks']} tasks"
    if numbers["pass_rate"] is not None:
        yield "pass rate", f"{numbers['pass_rate']:.1%}  [{low:.1%}, {high:.1%}]"
        yield "pass@k", "  ".join(f"{k}: {v:.1%}" for k, v in numbers["pass_at_k"].items())
        yield "mean reward", f"{numbers['reward_mean']:.3f}"
    yield "groups with contrast", f"{numbers['contrast_share']:.0%}"
    if hinted := numbers["hinted"]:
        gap = hinted["gap"]
        yield (
            "pass rate with the hint",
            f"{hinted['pass_rate']:.1%}  gap {gap['difference']:+.1%} "
            f"[{gap['low']:+.1%}, {gap['high']:+.1%}] on {hinted['tasks']} tasks",
        )
    if evidence := numbers["evidence"]:
        q = evidence["quantiles_abs"]
        yield (
            "evidence |D|, nats",
            f"mean {evidence['mean_abs']:.4f}  median {q['0.5']:.4f}  90% {q['0.9']:.3f}  "
            f"99% {q['0.99']:.3f}",
        )
        yield "half of it lies on", f"{evidence['half_of_it_on']:.1%} of the tokens"
        if evidence["agreement"] is not None:
            yield "correct above wrong", f"{evidence['agreement']:.0%} of the pairs (chance: 50%)"
    for whose, leaks in numbers["leaks"].items():
        if leaks is not None:
            rates = (f"{name.replace('_', ' ')} {rate:.1%}" for name, rate in leaks.items())
            yield f"leaks, {whose}", "  ".join(rates)
    yield (
        "verdicts",
        "  ".join(f"{name} {share:.1%}" for name, share in numbers["verifier"].items()),
    )
    yield "cut off", f"{numbers['truncated_share']:.1%}"
    tokens = numbers["tokens"]
    yield (
        "tokens",
        f"prompt {tokens['prompt_mean']:.0f}  completion {tokens['completion_mean']:.0f}  "
        f"a step {tokens['completion_per_step']:,.0f}  the run {tokens['completion_per_run']:,.0f}",
    )
    estimate = numbers["estimate"]
    yield (
        "estimated time",
        f"a step {estimate['step_seconds']:.1f} s (teacher {estimate['teacher_share']:.0%})  the run "
        f"about {timedelta(seconds=round(estimate['run_seconds']))}",
    )
