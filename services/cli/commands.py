"""The `strop` program: its parts, and the commands that need no running service.

With `--json` a command prints one JSON object a line and nothing else on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import yaml
from rich.console import Console
from rich.table import Column, Table

from services.config import JobSpec
from services.job_files import load_job
from services.settings import Settings, load_settings

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


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Only look at a recorded run: no Ray, no model.")
    ] = False,
    recording: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --demo: what `strop export` wrote."),
    ] = None,
    browser: Annotated[
        bool, typer.Option(help="With --demo: open the page in a browser, if there is one.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run the service on this machine, in the foreground, until Ctrl-C."""
    settings = load_settings()
    notes = Console(stderr=True, soft_wrap=True, highlight=False)
    if demo:
        _demo(settings, recording, browser, as_json, notes)
    if recording is not None:
        raise typer.BadParameter("it is looked at with --demo", param_hint="--recording")
    from services.local import up as run  # brings the store's server and the process tools

    def announce(service: Service) -> None:
        facts = {
            "url": service.url,
            "api_key_file": str(service.api_key_file),
            "home": str(service.home),
            "engine_metrics_url": service.engine_metrics_url,
        }
        if as_json:
            print_json(facts)
        else:
            print(f"strop is up at {service.url}")
            print(f"  API key  {service.api_key_file}")
            print(f"  data     {service.home}")
            print(f"  metrics  {service.url}/metrics")
            if service.engine_metrics_url:
                print(f"  engines  {service.engine_metrics_url}")
            print("Ctrl-C stops it.", flush=True)

    sys.exit(run(settings, tell=lambda line: notes.print(line, style="dim"), on_ready=announce))


def _demo(
    settings: Settings, recording: Path | None, browser: bool, as_json: bool, notes: Console
) -> NoReturn:
    from services.demo import demo, open_browser
    from services.recordings import DEMO

    if recording is None and not DEMO.exists():
        raise typer.BadParameter(
            "this installation brings no recorded run: name one that `strop export` wrote",
            param_hint="--recording",
        )

    def announce(service: Service, page: str) -> None:
        if as_json:
            key_file = str(service.api_key_file)
            print_json({"url": service.url, "page": page, "api_key_file": key_file})
        else:
            print(f"the recorded run is at {page}")
            print("Ctrl-C ends it and leaves nothing behind.", flush=True)
        if browser:
            open_browser(page)

    said = partial(notes.print, style="dim")
    sys.exit(demo(settings, recording or DEMO, tell=said, on_ready=announce))


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
        print_json(spec)
    else:
        print(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), end="")


def listing(first: str, *others: str) -> Table:
    """An empty table; its first column, by which people name a thing elsewhere, is never cut."""
    return Table(Column(first, no_wrap=True), *others, box=None, pad_edge=False)


def print_json(data: Mapping[str, Any]) -> None:
    """One object on one line."""
    print(json.dumps(data, ensure_ascii=False), flush=True)
