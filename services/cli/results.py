"""The commands that look at what a job left behind: report, replay, chat."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.cli.client import Client
from services.cli.commands import AsJson, JobId, app
from services.errors import StropError
from services.settings import load_settings


class Unreadable(StropError):
    """What was asked to be looked at is not there or is damaged."""

    code = "unreadable"


@app.command()
def report(
    job_id: JobId,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the report as one HTML page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job achieved: held-out accuracy, reward by step, seconds by phase."""
    from services.report import digest, terminal

    with Client.of(load_settings()) as client:
        job = client.job(job_id)
        found = digest(job, client.events(job_id))
    if as_json:
        facts = {
            "id": job_id,
            "accuracies": {
                a.verifier: [_plain(a.before), _plain(a.after)] for a in found.accuracies
            },
            "gain": found.gain,
            "rewards": [step["reward_mean"] for step in found.steps],
            "phase_seconds": found.phase_seconds,
            "tokens_per_s": found.tokens_per_s,
            "result": found.result,
        }
        print(json.dumps(facts, ensure_ascii=False), flush=True)
    else:
        Console(highlight=False).print(terminal(found))
    if html is not None:
        _write_page(html, found, job["result"] or {})
        if not as_json:
            print(f"report: {html.resolve()}")


def _plain(measured: Any) -> dict[str, float] | None:
    if measured is None:
        return None
    return {name: getattr(measured, name) for name in ("accuracy", "low", "high", "n")}


def _write_page(path: Path, found: Any, result: Mapping[str, Any]) -> None:
    from services.report_page import write_page
    from services.report_rollouts import examples

    traces = Path(result.get("traces", ""))
    shown = examples(traces, _decoder(result["base_model"])) if traces.is_dir() and result else []
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, found, shown)


def _decoder(model: str) -> Callable[[Sequence[int]], list[str]]:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    return lambda ids: tokenizer.batch_decode([[token] for token in ids])


@app.command()
def export(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Jobs that have ended.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where the recording goes.")],
    as_json: AsJson = False,
) -> None:
    """Record jobs, whole but for their weights, for `strop up --demo --recording FILE`."""
    from services.recordings import Recorded, record

    settings = load_settings()
    with Client.of(settings) as client:
        found = [
            Recorded(
                client.job(one),
                list(client.events(one)),
                client.checkpoints(one),
                settings.jobs_folder / one / "traces",
            )
            for one in job_ids
        ]
    to.parent.mkdir(parents=True, exist_ok=True)
    record(to, found, settings.home)
    facts = {"recording": str(to.resolve()), "jobs": job_ids, "bytes": to.stat().st_size}
    if as_json:
        print(json.dumps(facts), flush=True)
    else:
        print(f"{facts['recording']}: {len(job_ids)} job(s), {facts['bytes'] / 1e6:.2f} MB")


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A job's trace folder, or one step's file.")],
    step: Annotated[
        list[int] | None, typer.Option("--step", min=0, help="Only this step; repeatable.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Start from this model instead of the job's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the learner on stored batches, without Ray or a service."""
    from services.replay import replay as run
    from services.traces import TraceError
    from trainer.adamw import LearningError
    from trainer.algorithms import AlgorithmError
    from trainer.batch import BatchError
    from trainer.model_files import ModelError

    try:
        for metrics in run(trace, model=model, steps=step):
            if as_json:
                print(json.dumps(metrics), flush=True)
            else:
                number = int(metrics.pop("step"))
                figures = "  ".join(f"{name} {value:.6g}" for name, value in metrics.items())
                print(f"step {number}: {figures}", flush=True)
    except (TraceError, LearningError, BatchError, AlgorithmError, ModelError) as error:
        raise Unreadable(str(error)) from error


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A model folder, a trained one for example.")],
    prompt: Annotated[str | None, typer.Argument(help="Ask this and leave.")] = None,
    temperature: Annotated[float, typer.Option(min=0.01, max=2.0)] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
) -> None:
    """Talk to a model on this machine."""
    from services.chat import Chat
    from trainer.model_files import ModelError

    try:
        conversation = Chat(model, temperature=temperature, max_tokens=max_tokens)
    except ModelError as error:
        raise Unreadable(str(error)) from error

    def answer(text: str) -> None:
        for piece in conversation.ask(text):
            print(piece, end="", flush=True)
        print()

    if prompt is not None:
        answer(prompt)
        return
    print("An empty line or Ctrl-D ends the conversation.", file=sys.stderr)
    while text := _line():
        answer(text)


def _line() -> str:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
