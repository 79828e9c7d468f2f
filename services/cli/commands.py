"""The commands of `strop`, each a few lines over the client, the spec or the local service.

With `--json` a command prints one JSON object a line and nothing else on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from services.cli.client import Client
from services.cli.follow import follow, step_line
from services.config import JobSpec, load_job
from services.settings import load_settings

if TYPE_CHECKING:
    from services.local import Service

app = typer.Typer(
    name="strop",
    help="Post-train your own reasoning models with RLSD.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB.YAML", help="The job file.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, ftjob-...")]

_INTERRUPTED = 130


@app.command()
def up(as_json: AsJson = False) -> None:
    """Run the service on this machine, in the foreground, until Ctrl-C."""
    from services.local import up as run  # brings the store's server and the process tools

    settings = load_settings()
    notes = Console(stderr=True, soft_wrap=True, highlight=False)

    def announce(service: Service) -> None:
        facts = {
            "url": service.url,
            "api_key_file": str(service.api_key_file),
            "home": str(service.home),
            "engine_metrics_url": service.engine_metrics_url,
        }
        if as_json:
            _print_json(facts)
        else:
            print(f"strop is up at {service.url}")
            print(f"  API key  {service.api_key_file}")
            print(f"  data     {service.home}")
            print(f"  metrics  {service.url}/metrics")
            if service.engine_metrics_url:
                print(f"  engines  {service.engine_metrics_url}")
            print("Ctrl-C stops it.", flush=True)

    sys.exit(run(settings, tell=lambda line: notes.print(line, style="dim"), on_ready=announce))


@app.command()
def submit(
    job_file: JobFile,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Follow the job.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a training job."""
    spec = load_job(job_file)
    with Client.of(load_settings()) as client:
        job = client.submit(spec.model_dump(mode="json"))
        if as_json:
            _print_json(job)
        else:
            print(f"{job['id']} is {job['status']}", flush=True)
        if follow_it:
            _follow(client, job["id"], as_json)


@app.command()
def jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Client.of(load_settings()) as client:
        found = client.jobs(limit)
    if as_json:
        for job in found:
            _print_json(job)
        return
    table = Table("ID", "NAME", "STATUS", "STEP", "REWARD", "CREATED", box=None, pad_edge=False)
    for job in found:
        step: dict[str, Any] = job["progress"] or {}
        table.add_row(
            job["id"],
            job["method"]["strop"]["name"],
            _status(job),
            f"{step['step']}/{step['steps']}" if step else "",
            f"{step['reward_mean']:.3f}" if step else "",
            _time(job["created_at"]),
        )
    Console(soft_wrap=True).print(table)


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    with Client.of(load_settings()) as client:
        job = client.job(job_id)
    if as_json:
        _print_json(job)
        return
    facts = {
        "id": job["id"],
        "name": job["method"]["strop"]["name"],
        "status": _status(job),
        "model": job["model"],
        "tasks": job["training_file"],
        "created": _time(job["created_at"]),
        "started": _time(job["started_at"]),
        "finished": _time(job["finished_at"]),
        "took": _took(job),
        "error": job["error"] and job["error"]["message"],
        "trained model": job["fine_tuned_model"],
    }
    progress: dict[str, Any] = job["progress"] or {}
    if progress:
        facts["progress"] = step_line(progress)
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    Console(soft_wrap=True).print(table)


@app.command()
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
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job."""
    with Client.of(load_settings()) as client:
        job = client.cancel(job_id)
    if as_json:
        _print_json(job)
    else:
        print(f"{job['id']} is {_status(job)}")


@app.command()
def config(
    job_file: Annotated[
        Path | None, typer.Argument(metavar="JOB.YAML", help="The job file.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of job files instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a job's spec with every default in its place."""
    if schema:
        print(json.dumps(JobSpec.model_json_schema(), indent=None if as_json else 2))
        return
    if job_file is None:
        raise typer.BadParameter("give a job file, or --schema", param_hint="JOB.YAML")
    spec = load_job(job_file).model_dump(mode="json")
    if as_json:
        _print_json(spec)
    else:
        print(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), end="")


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
        _print_json(event)
        status = event["data"].get("status", status)
    return status


def _print_json(data: Mapping[str, Any]) -> None:
    print(json.dumps(data, ensure_ascii=False), flush=True)


def _status(job: Mapping[str, Any]) -> str:
    stopping = job["cancel_requested"] and job["status"] == "running"
    return f"{job['status']}, stopping" if stopping else job["status"]


def _time(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _took(job: Mapping[str, Any]) -> timedelta | None:
    if job["started_at"] is None or job["finished_at"] is None:
        return None
    return timedelta(seconds=job["finished_at"] - job["started_at"])
