"""The commands about jobs, each a few lines over the client: submit, watch, steer.

`strop jobs` lists them and is the parent of the others; those that are typed most are
commands of their own too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.client import Client
from services.cli.commands import AsJson, JobFile, JobId, app, listing, print_json
from services.cli.follow import follow, step_line
from services.cli.preview import show_dry_run
from services.config import JobSpec
from services.job_files import load_job
from services.settings import load_settings

jobs = typer.Typer(help="List jobs, newest first, or do something with one.")
app.add_typer(jobs, name="jobs", invoke_without_command=True)

_INTERRUPTED = 130
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90, 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


Priority = Annotated[
    int | None, typer.Option(help="-100 to 100; jobs of a higher priority are started first.")
]
MaxRuntime = Annotated[
    float | None,
    typer.Option(
        parser=_seconds, metavar="TIME", help="Pause it after 90s, 15m, 2h, 1d of running."
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Pause it after so many completion tokens.")
]
Pairs = Annotated[
    list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Repeatable.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Follow the job.")]


@app.command()
def submit(
    job_file: JobFile,
    follow_it: Follow = False,
    upload: Annotated[
        bool, typer.Option(help="Upload the task files, for a service on another machine.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the job would be and take.")
    ] = False,
    preview: Annotated[
        int, typer.Option(min=0, max=20, help="With --dry-run: show so many tasks.")
    ] = 0,
    priority: Priority = None,
    max_runtime: MaxRuntime = None,
    max_tokens: MaxTokens = None,
    metadata: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """Queue a training job."""
    spec = load_job(job_file)
    with Client.of(load_settings()) as client:
        data = spec.model_dump(mode="json")
        if upload:
            data["tasks"] |= _uploaded(client, spec)
        if dry_run:
            found = client.dry_run(data, preview)
            print_json(found) if as_json else show_dry_run(found)
            return
        job = client.submit(
            data,
            priority=priority,
            max_runtime=max_runtime,
            max_tokens=max_tokens,
            metadata=_metadata(metadata),
        )
        _say(job, as_json)
        if follow_it:
            _follow(client, job["id"], as_json)


def _uploaded(client: Client, spec: JobSpec) -> dict[str, str]:
    """The job's task files by the ids they have now."""
    named = {"train": spec.tasks.train, "holdout": spec.tasks.holdout}
    return {which: client.upload(Path(name)) for which, name in named.items() if name is not None}


@jobs.callback()
def list_jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    metadata: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first, or do something with one."""
    if context.invoked_subcommand is not None:
        return
    with Client.of(load_settings()) as client:
        found = client.jobs(limit, _metadata(metadata))
    if as_json:
        for job in found:
            print_json(job)
        return
    table = listing("ID", "NAME", "STATUS", "STEP", "REWARD", "CREATED")
    for job in found:
        step: dict[str, Any] = job["progress"] or {}
        table.add_row(
            job["id"],
            job["spec"]["name"],
            _status(job),
            f"{step['step']}/{step['steps']}" if step else "",
            f"{step['reward_mean']:.3f}" if step else "",
            _time(job["created_at"]),
        )
    Console(soft_wrap=True).print(table)


@app.command()
@jobs.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    with Client.of(load_settings()) as client:
        job = client.job(job_id)
    if as_json:
        print_json(job)
        return
    facts = {
        "id": job["id"],
        "name": job["spec"]["name"],
        "status": _status(job),
        "waiting": job["waiting"],
        "model": job["model"],
        "tasks": job["training_file"],
        "priority": job["priority"] or None,
        "created": _time(job["created_at"]),
        "started": _time(job["started_at"]),
        "finished": _time(job["finished_at"]),
        "took": _took(job),
        "about to end": _time(job["estimated_finish"]),
        "trained tokens": job["trained_tokens"] and f"{job['trained_tokens']:,}",
        "error": job["error"] and job["error"]["message"],
        "trained model": job["fine_tuned_model"],
        "lies at": job["result"] and job["result"].get("model"),
    }
    progress: dict[str, Any] = job["progress"] or {}
    if progress:
        facts["progress"] = step_line(progress)
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value not in (None, "", 0):
            table.add_row(name, str(value))
    Console(soft_wrap=True).print(table)


@app.command()
@jobs.command()
def logs(
    job_id: JobId,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a job's events."""
    with Client.of(load_settings()) as client:
        if follow_it:
            client.job(job_id)
            _follow(client, job_id, as_json)
        else:
            _show(client.events(job_id), as_json)


@app.command()
@jobs.command()
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job."""
    with Client.of(load_settings()) as client:
        _say(client.cancel(job_id), as_json)


@jobs.command()
def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Pause a job: it saves itself and frees what it holds."""
    with Client.of(load_settings()) as client:
        _say(client.pause(job_id), as_json)


@jobs.command()
def resume(job_id: JobId, follow_it: Follow = False, as_json: AsJson = False) -> None:
    """Queue a paused job again: it goes on from where it stopped."""
    with Client.of(load_settings()) as client:
        job = client.resume(job_id)
        _say(job, as_json)
        if follow_it:
            _follow(client, job["id"], as_json)


@jobs.command()
def retry(
    job_id: JobId,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Go on from this one; from the start if absent."),
    ] = None,
    follow_it: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Queue a new job like one that has ended."""
    with Client.of(load_settings()) as client:
        job = client.retry(job_id, checkpoint)
        _say(job, as_json)
        if follow_it:
            _follow(client, job["id"], as_json)


@jobs.command("set")
def change(
    job_id: JobId,
    priority: Priority = None,
    max_runtime: MaxRuntime = None,
    max_tokens: MaxTokens = None,
    metadata: Pairs = None,
    as_json: AsJson = False,
) -> None:
    """Change what may change of a job; metadata is replaced as a whole."""
    wanted = {
        "priority": priority,
        "max_runtime": max_runtime,
        "max_tokens": max_tokens,
        "metadata": _metadata(metadata),
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change: give an option")
    with Client.of(load_settings()) as client:
        _say(client.change(job_id, changes), as_json)


@jobs.command()
def checkpoints(job_id: JobId, as_json: AsJson = False) -> None:
    """List the checkpoints of a job, newest first."""
    with Client.of(load_settings()) as client:
        found = client.checkpoints(job_id)
    if as_json:
        for one in found:
            print_json(one)
        return
    table = listing("ID", "STEP", "CREATED", "MODEL")
    for one in found:
        model = one["fine_tuned_model_checkpoint"]
        table.add_row(one["id"], str(one["step_number"]), _time(one["created_at"]), model)
    Console(soft_wrap=True).print(table)


@jobs.command()
def metrics(job_id: JobId) -> None:
    """Print the numbers of every step and evaluation, as JSON, one object a line."""
    with Client.of(load_settings()) as client:
        for one in client.metrics(job_id):
            print_json(one)


def _follow(client: Client, job_id: str, as_json: bool) -> None:
    """Follow to the end: exit status 1 unless the job succeeds. Ctrl-C only detaches."""
    try:
        status = _show(client.follow(job_id), as_json)
    except KeyboardInterrupt:
        print(
            f"\ndetached; {job_id} goes on. Follow it with `strop logs -f {job_id}`, stop it with "
            f"`strop cancel {job_id}`.",
            file=sys.stderr,
        )
        sys.exit(_INTERRUPTED)
    if status != "succeeded":
        sys.exit(1)


def _show(events: Iterable[Mapping[str, Any]], as_json: bool) -> str | None:
    """Print the events; the last status they told."""
    if not as_json:
        return follow(events)
    status: str | None = None
    for event in events:
        print_json(event)
        status = event["data"].get("status", status)
    return status


def _say(job: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    print(f"{job['id']} is {_status(job)}", flush=True)
    for note in job["notes"]:
        print(f"  {note}")


def _status(job: Mapping[str, Any]) -> str:
    if job["status"] == "running" and job["cancel_requested"]:
        return "running, stopping"
    if job["status"] == "running" and job["pause_requested"]:
        return "running, pausing"
    return job["status"]


def _metadata(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    found = [pair.partition("=") for pair in pairs]
    if wrong := [key for key, equals, _ in found if not equals or not key]:
        raise typer.BadParameter(f"{wrong[0]!r}: write KEY=VALUE")
    return {key: value for key, _, value in found}


def _time(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _took(job: Mapping[str, Any]) -> timedelta | None:
    if job["started_at"] is None or job["finished_at"] is None:
        return None
    return timedelta(seconds=job["finished_at"] - job["started_at"])
