"""A job's events on the screen: a progress line on a terminal, plain lines elsewhere.

In: events as the REST API gives them. Out: what a person watches, and the job's last status.
Knows nothing of where events come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

_STYLES = {"warn": "yellow", "error": "red"}


def follow(events: Iterable[Mapping[str, Any]], console: Console | None = None) -> str | None:
    """Show the events until they end; the job's last status, None when no event told one."""
    console = console or Console()
    status: str | None = None
    view = _Bar(console) if console.is_terminal else _Lines(console)
    with view:
        for event in events:
            if event["data"].get("kind") == "status":
                status = event["data"]["status"]
            view.show(event)
    return status


class _Lines:
    """One line for each event that says something new."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: Mapping[str, Any]) -> None:
        data = event["data"]
        text = step_line(data) if data.get("kind") == "step" else event["message"]
        self._console.print(_stamped(event, text), soft_wrap=True)


class _Bar:
    """Phase, steps, reward, speed and time left on one line that stays; messages scroll above."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("waiting", total=None, numbers="")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        data = event["data"]
        match data.get("kind"):
            case "phase":
                self._progress.update(self._task, description=data["phase"])
            case "step":
                self._progress.update(
                    self._task,
                    completed=data["step"],
                    total=data["steps"],
                    numbers=step_line(data),
                )
            case _:
                self._progress.console.print(_stamped(event, event["message"]), soft_wrap=True)


def step_line(data: Mapping[str, Any]) -> str:
    """A step's figures in one line: `step 3/8 · reward 0.412 · 910 tokens/s · 0:01:20 left`."""
    parts = [f"step {data['step']}/{data['steps']}"]
    if (reward := data.get("reward_mean")) is not None:
        parts.append(f"reward {reward:.3f}")
    if (speed := data.get("tokens_per_s")) is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    if (left := data.get("seconds_left")) is not None:
        parts.append(f"{timedelta(seconds=round(left))} left")
    return " · ".join(parts)


def _stamped(event: Mapping[str, Any], text: str) -> Text:
    time = datetime.fromtimestamp(event["created_at"]).strftime("%H:%M:%S")
    return Text.assemble((f"{time} ", "dim"), (text, _STYLES.get(event["level"], "")))
