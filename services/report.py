"""What a training job achieved: its events digested, and shown as tables in a terminal.

In: a job and its events as the REST API returns them. Out: a `Digest` of plain numbers,
which the HTML page draws too, and the rich tables. Knows no tokens, models or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.statistics import Difference, unpaired_difference

PHASES = ("start", "evaluate", "rollout", "verify", "score", "learn", "publish", "checkpoint")
# Timed from one phase event to the next, in whole seconds; the others by their step's event.
AROUND_STEPS = ("start", "evaluate", "checkpoint")
ALL = "all"


@dataclass(frozen=True, slots=True)
class Measured:
    """An accuracy in [0, 1], its 95 % interval, and over how many completions."""

    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Held-out accuracy of one verifier's tasks, or of `all`, before and after."""

    verifier: str
    before: Measured
    after: Measured | None
    gain: Difference | None


@dataclass(frozen=True, slots=True)
class Digest:
    """A job in numbers; `steps` and `evaluations` hold event data, in the order of the steps."""

    job: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    evaluations: tuple[Mapping[str, Any], ...]
    accuracies: tuple[Accuracy, ...]
    phase_seconds: Mapping[str, float]
    result: Mapping[str, Any]

    @property
    def seconds(self) -> float | None:
        """From the job's start to its end."""
        start, end = self.job.get("started_at"), self.job.get("finished_at")
        return None if start is None or end is None else float(end - start)

    @property
    def tokens_per_s(self) -> float | None:
        """Completion tokens over the seconds spent on rollouts."""
        tokens = sum(float(step["completion_tokens"]) for step in self.steps)
        seconds = self.phase_seconds.get("rollout", 0.0)
        return tokens / seconds if seconds > 0 else None

    @property
    def gain(self) -> Difference | None:
        """The gain in held-out accuracy over all tasks."""
        return self.accuracies[0].gain if self.accuracies else None

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        gain = self.gain
        if gain is None:
            return "Held-out accuracy was not measured before and after."
        size = f"{points(gain['difference'])} [{points(gain['low'])}, {points(gain['high'])}]"
        on = f"on {gain['n']} held-out tasks"
        if gain["low"] > 0:
            return f"Held-out accuracy rose by {size} points {on}, beyond its 95 % interval."
        if gain["high"] < 0:
            return f"Held-out accuracy fell by {size} points {on}, beyond its 95 % interval."
        return f"Held-out accuracy changed by {size} points {on}: no more than chance explains."


def digest(job: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Digest:
    """Digest a job's events. A step told twice, after a resume, counts as it was told last."""
    steps: dict[int, Mapping[str, Any]] = {}
    evaluations: dict[int, Mapping[str, Any]] = {}
    result: Mapping[str, Any] = job.get("result") or {}
    seconds = dict.fromkeys(PHASES, 0.0)
    phase, since = "", 0.0
    for event in events:
        data = event.get("data") or {}
        match data.get("kind"):
            case "phase":
                if phase in AROUND_STEPS:
                    seconds[phase] += float(event["created_at"]) - since
                phase, since = data["phase"], float(event["created_at"])
            case "step":
                steps[data["step"]] = data
            case "evaluation":
                evaluations[data["step"]] = data
            case "result":
                result = data
            case _:
                pass
    ordered = tuple(steps[number] for number in sorted(steps))
    measured = tuple(evaluations[number] for number in sorted(evaluations))
    for step in ordered:
        for name, spent in step["phase_seconds"].items():
            seconds[name] = seconds.get(name, 0.0) + float(spent)
    return Digest(
        job=job,
        steps=ordered,
        evaluations=measured,
        accuracies=_accuracies(measured, result.get("gain")),
        phase_seconds={phase: spent for phase, spent in seconds.items() if spent > 0},
        result=result,
    )


def _accuracies(
    evaluations: Sequence[Mapping[str, Any]], gain: Difference | None
) -> tuple[Accuracy, ...]:
    if not evaluations:
        return ()
    first, last = evaluations[0], evaluations[-1]
    rows = [(ALL, first, last)]
    rows += [
        (kind, data, last["by_verifier"].get(kind)) for kind, data in first["by_verifier"].items()
    ]
    found: list[Accuracy] = []
    for verifier, start, end in rows:
        before = _measured(start)
        after = _measured(end) if end is not None and len(evaluations) > 1 else None
        change = None
        if after is not None and before.n and after.n:
            change = (
                gain
                if verifier == ALL and gain
                else unpaired_difference(
                    (round(before.accuracy * before.n), before.n),
                    (round(after.accuracy * after.n), after.n),
                )
            )
        found.append(Accuracy(verifier, before, after, change))
    return tuple(found)


def _measured(data: Mapping[str, Any]) -> Measured:
    return Measured(data["accuracy"], data["low"], data["high"], int(data["n"]))


def percent(share: float) -> str:
    """0.314 as `31.4 %`."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points: 0.05 as `+5.0`."""
    return f"{100 * share:+.1f}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `7 min 03 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def terminal(report: Digest) -> RenderableType:
    """The tables that end `make demo`."""
    parts: list[RenderableType] = []
    if report.accuracies:
        parts.append(_accuracy_table(report))
    if report.steps:
        parts += [_reward_table(report), _cost_table(report)]
    colour = "green" if (gain := report.gain) is not None and gain["low"] > 0 else "yellow"
    parts.append(Text(report.verdict, style=f"bold {colour}"))
    return Group(*parts)


def _accuracy_table(report: Digest) -> Table:
    table = Table(title="Held-out accuracy, with 95 % intervals", title_justify="left")
    table.add_column("verifier")
    for name in ("before", "after", "difference (points)", "n"):
        table.add_column(name, justify="right")
    for row in report.accuracies:
        table.add_row(
            Text(row.verifier),
            _with_interval(row.before),
            "-" if row.after is None else _with_interval(row.after),
            "-" if row.gain is None else gain_text(row.gain),
            str(row.before.n),
            style="bold" if row.verifier == ALL else "",
        )
    return table


def _with_interval(measured: Measured) -> str:
    low, high = 100 * measured.low, 100 * measured.high
    return f"{percent(measured.accuracy)} ({low:.1f} to {high:.1f})"


def gain_text(gain: Difference) -> str:
    """A gain with its interval, in percentage points."""
    return f"{points(gain['difference'])} ({points(gain['low'])} to {points(gain['high'])})"


def _reward_table(report: Digest) -> Table:
    kinds = sorted({kind for step in report.steps for kind in step["rewards"]})
    table = Table(title="Mean reward by step", title_justify="left")
    table.add_column("step", justify="right")
    table.add_column("reward", justify="right")
    table.add_column("")
    for kind in kinds:
        table.add_column(Text(kind), justify="right")
    table.add_column("tokens/s", justify="right")
    for step in report.steps:
        reward = float(step["reward_mean"])
        rewards = step["rewards"]
        table.add_row(
            str(step["step"]),
            f"{reward:.3f}",
            Text("█" * round(20 * reward) or "▏", style="blue"),
            *(f"{rewards[kind]:.3f}" if kind in rewards else "-" for kind in kinds),
            f"{step['tokens_per_s']:.0f}",
        )
    return table


def _cost_table(report: Digest) -> Table:
    table = Table(title="Seconds by phase", title_justify="left")
    for name in ("phase", "seconds", "share", "per step"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    total = sum(report.phase_seconds.values())
    for phase, seconds in report.phase_seconds.items():
        table.add_row(
            Text(phase),
            f"{seconds:.1f}",
            f"{100 * seconds / total:.0f} %",
            "" if phase in AROUND_STEPS else f"{seconds / len(report.steps):.1f}",
        )
    speed = report.tokens_per_s
    table.add_section()
    table.add_row("total", f"{total:.1f}", "", "", style="bold")
    table.caption = None if speed is None else f"{speed:.0f} completion tokens/s during rollouts"
    return table
