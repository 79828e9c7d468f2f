"""A dry run on the screen: what a job would be and take, and its tasks as models see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_GIB = 1 << 30
_STYLES = {
    "system": "magenta",
    "user": "cyan",
    "assistant": "green",
    "tool": "yellow",
    "privileged": "black on yellow",
}


def show_dry_run(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the facts, the memory of each tier, and the tasks with their spans in colour."""
    console = console or Console(soft_wrap=True, highlight=False)
    for note in found["notes"]:
        console.print(note, markup=False)
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(found):
        table.add_row(name, value)
    console.print(table)
    tiers = Table("TIER", "ACTORS", "ON", "GIB EACH", "OF WHICH", box=None, pad_edge=False)
    for tier in found["memory"]["tiers"]:
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in tier["bytes"].items())
        tiers.add_row(
            tier["tier"], str(tier["replicas"]), tier["device"], _gib(tier["total_bytes"]), parts
        )
    console.print(tiers)
    for task in found["preview"]:
        console.print()
        console.print(f"task {task['id']}", style="bold", markup=False)
        for who in ("policy", "teacher"):
            console.print(_view(who, task[who], task["teacher_note"]))


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tokens, memory, time = found["tokens"], found["memory"], found["time"]
    prompt = tokens["prompt"]
    yield "tasks", "  ".join(f"{name} {count}" for name, count in found["tasks"].items())
    yield "prompt tokens", f"{prompt['min']} to {prompt['max']}, {prompt['mean']:.0f} on average"
    most = tokens["completion_per_run_at_most"]
    yield "completion tokens", f"{tokens['completion_per_step_at_most']:,} a step, {most:,} at most"
    yield "parameters", f"{memory['parameters']:,}, by {memory['parameters_basis']}"
    fits = {True: "fits", False: "does NOT fit", None: "its memory is not known here"}
    has = "" if memory["host_bytes"] is None else f" of {_gib(memory['host_bytes'])}"
    needed = f"{_gib(memory['host_needed_bytes'])}{has} GiB"
    yield "memory of CPUs", f"{needed}: {fits[memory['host_fits']]}"
    yield "memory of GPUs", memory["gpu_basis"]
    about = (
        "not known" if time["seconds"] is None else str(timedelta(seconds=round(time["seconds"])))
    )
    yield "time", f"{about}: {time['basis']}"


def _view(who: str, laid: Mapping[str, Any] | None, note: str | None) -> Text:
    if laid is None:
        return Text(f"{who}: {note}", style="dim")
    text = Text(f"{who}, {laid['tokens']} tokens\n", style="dim")
    for span in laid["spans"]:
        text.append(span["text"], style=_STYLES.get(span["of"], ""))
    return text


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f}"
