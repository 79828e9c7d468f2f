"""The reward curve as inline SVG.

Pure: numbers in, markup out. Colours are CSS variables of the page, so that the drawing
follows its light and dark themes; every text from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 118, 14, 40
LINE_COLOURS = ("var(--line-1)", "var(--line-2)", "var(--line-3)", "var(--line-4)")
_LABEL_GAP = 16


def reward_chart(
    steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> Markup:
    """Mean reward by step, in all and by verifier, and held-out accuracy with its intervals.

    Takes the data of step and evaluation events, each in order. Empty without steps.
    """
    if not steps:
        return Markup("")
    last = max(int(steps[-1]["step"]), *(int(e["step"]) for e in evaluations), 1)
    top = _ceiling(steps, evaluations)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = _axes(x, y, last, top)
    kinds = sorted({kind for step in steps for kind in step["rewards"]})
    labels: list[tuple[float, str, str]] = []
    for kind, colour in zip(kinds, _cycled(LINE_COLOURS, len(kinds)), strict=True):
        points = [(s["step"], float(s["rewards"][kind])) for s in steps if kind in s["rewards"]]
        if len(kinds) > 1:
            parts.append(_line([(x(a), y(b)) for a, b in points], colour, 1.5))
            labels.append((y(points[-1][1]), kind, colour))
    mean = [(x(s["step"]), y(float(s["reward_mean"]))) for s in steps]
    parts.append(_line(mean, "var(--ink)", 2.5))
    labels.append((mean[-1][1], "mean reward", "var(--ink)"))
    for step, (px, py) in zip(steps, mean, strict=True):
        told = f"step {step['step']}: mean reward {float(step['reward_mean']):.3f}"
        parts.append(
            Markup(
                '<circle cx="{}" cy="{}" r="3.5" fill="var(--ink)"><title>{}</title></circle>'
            ).format(_n(px), _n(py), told)
        )
    for evaluation in evaluations:
        parts.append(_whisker(x(evaluation["step"]), y, evaluation))
    parts += _labels(labels)
    described = escape(
        f"Mean reward by step, from {float(steps[0]['reward_mean']):.3f} "
        f"to {float(steps[-1]['reward_mean']):.3f}"
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, described, Markup("").join(parts)
    )


def _ceiling(steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> float:
    highest = max(
        *(float(value) for step in steps for value in step["rewards"].values()),
        *(float(step["reward_mean"]) for step in steps),
        *(float(evaluation["high"]) for evaluation in evaluations),
        0.1,
    )
    return next((tick / 5 for tick in range(1, 5) if highest <= tick / 5), 1.0)


def _axes(x: Any, y: Any, last: int, top: float) -> list[Markup]:
    parts: list[Markup] = []
    for tick in range(5):
        value = top * tick / 4
        parts.append(
            Markup(
                '<line x1="{}" x2="{}" y1="{}" y2="{}" class="grid"/>'
                '<text x="{}" y="{}" class="tick" text-anchor="end">{}</text>'
            ).format(
                LEFT, WIDTH - RIGHT, _n(y(value)), _n(y(value)), LEFT - 8, _n(y(value) + 4),
                f"{value:.2f}",
            )
        )  # fmt: skip
    every = max(1, -(-last // 12))
    for step in range(0, last + 1, every):
        parts.append(
            Markup('<text x="{}" y="{}" class="tick" text-anchor="middle">{}</text>').format(
                _n(x(step)), HEIGHT - BOTTOM + 18, step
            )
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        Markup('<text x="{}" y="{}" class="tick" text-anchor="middle">learning step</text>').format(
            _n(middle), HEIGHT - 4
        )
    )
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> Markup:
    path = " ".join(f"{_n(px)},{_n(py)}" for px, py in points)
    return Markup(
        '<polyline points="{}" fill="none" stroke="{}" stroke-width="{}" '
        'stroke-linejoin="round" stroke-linecap="round"/>'
    ).format(path, colour, width)


def _whisker(px: float, y: Any, evaluation: Mapping[str, Any]) -> Markup:
    low, middle, high = (_n(y(float(evaluation[name]))) for name in ("low", "accuracy", "high"))
    told = (
        f"held-out accuracy after {evaluation['step']} steps: "
        f"{100 * float(evaluation['accuracy']):.1f} %, "
        f"95 % interval {100 * float(evaluation['low']):.1f} "
        f"to {100 * float(evaluation['high']):.1f} %"
    )
    at = _n(px)
    return Markup(
        '<g class="whisker"><line x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<circle cx="{}" cy="{}" r="5"/><title>{}</title></g>'
    ).format(at, at, low, high, at, middle, told)


def _labels(labels: Sequence[tuple[float, str, str]]) -> list[Markup]:
    """Names at the ends of the lines, moved apart where they would meet."""
    parts: list[Markup] = []
    free = float(TOP)
    for py, name, colour in sorted(labels):
        at = max(py, free)
        free = at + _LABEL_GAP
        parts.append(
            Markup('<text x="{}" y="{}" class="name" fill="{}">{}</text>').format(
                WIDTH - RIGHT + 10, _n(at + 4), colour, name
            )
        )
    return parts


def _cycled(colours: Sequence[str], count: int) -> list[str]:
    return [colours[index % len(colours)] for index in range(count)]


def _n(value: float) -> str:
    return f"{value:.1f}"
