"""The job's report as one HTML file: no script, no font, no image from anywhere.

Everything that came from a model, a task or a job is escaped by the template engine.
In: a digest, example rollouts. Out: markup, or a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from services.report import ALL, AROUND_STEPS, Digest, duration, gain_text, percent
from services.report_chart import reward_chart
from services.report_rollouts import Example, Token
from services.whole_files import written_whole

_FULL, _PALE = 0.95, 0.1

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1c1b19; --soft: #5c5a55; --rule: #e2dfd8;
  --praise: 122, 184, 245; --blame: 245, 166, 96; --up: #19692c; --flat: #7a4d00;
  --line-1: #1f6fb5; --line-2: #b04a00; --line-3: #6d4fb3; --line-4: #2a7a4b; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #161513; --card: #201f1c; --ink: #f1efea; --soft: #b3afa6; --rule: #3a3833;
  --praise: 32, 92, 158; --blame: 148, 72, 14; --up: #7fd494; --flat: #f0c274;
  --line-1: #6cb2f2; --line-2: #f29b5c; --line-3: #b49af0; --line-4: #74c993; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 1.12rem; margin: 40px 0 10px; }
p { margin: 6px 0; } .soft { color: var(--soft); } .small { font-size: .875rem; }
.verdict { font-size: 1.08rem; font-weight: 600; color: var(--flat); margin-top: 14px; }
.verdict.up { color: var(--up); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(188px, 1fr));
  gap: 12px; margin: 22px 0 0; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 12px 16px; } .tile b { display: block; font-size: 1.18rem; line-height: 1.4; white-space: nowrap; }
.card { padding: 16px; margin: 12px 0; }
.wide { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 560px; height: auto; }
svg .grid { stroke: var(--rule); } svg .tick { fill: var(--soft); font-size: 12px; }
svg .name { font-size: 12.5px; font-weight: 600; }
svg .whisker line { stroke: var(--up); stroke-width: 2; }
svg .whisker circle { fill: var(--card); stroke: var(--up); stroke-width: 2.5; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { font-size: .84rem; color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; } tr.all td { font-weight: 650; }
.bar { width: 34%; } .bar i { display: block; height: 10px; border-radius: 5px;
  background: var(--line-1); min-width: 2px; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 9px; font-size: .8rem; font-weight: 650; margin-right: 6px; }
.badge.right { color: var(--line-1); } .badge.wrong { color: var(--line-2); }
.rollout { position: relative; padding-bottom: 62px; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0;
  padding-left: 12px; border-left: 3px solid var(--rule); }
.tokens { font: 15px/2 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 12px 0 0; }
.token { border-radius: 3px; padding: 2px 0; cursor: default; }
.praise { background: rgba(var(--praise), var(--much)); }
.blame { background: rgba(var(--blame), var(--much)); }
.token:hover, .token:focus { outline: 2px solid var(--ink); outline-offset: 1px; }
.rollout::after, .token:hover::after, .token:focus::after { position: absolute; left: 16px;
  right: 16px; bottom: 12px; height: 42px; padding-top: 8px; white-space: pre-wrap;
  font: 13px/1.35 system-ui, sans-serif; background: var(--card); color: var(--soft);
  border-top: 1px solid var(--rule); overflow: hidden; }
.rollout::after { content: "Point at a token, or tap it, to see what it was worth."; }
.token:hover::after, .token:focus::after { content: attr(data-worth); color: var(--ink);
  z-index: 1; }
.token:hover::after { z-index: 2; }
.key { display: inline-block; width: 84px; height: 12px; border-radius: 3px; margin: 0 6px 0 0;
  vertical-align: -1px; }
.key.praise { background: linear-gradient(90deg, rgba(var(--praise), .1), rgba(var(--praise), 1)); }
.key.blame { background: linear-gradient(90deg, rgba(var(--blame), .1), rgba(var(--blame), 1)); }
code { font: .92em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
@media print { .rollout { padding-bottom: 16px; } .rollout::after { display: none; } }
"""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ name }}: training report</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ name }}</h1>
<p class="soft">{{ report.job.model }}, {{ algorithm }}, {{ report.steps | length }} steps,
seed {{ report.job.seed }}</p>
<p class="verdict{{ ' up' if risen }}">{{ report.verdict }}</p>

<div class="tiles">
{% for label, value in tiles %}
<div class="tile"><span class="small soft">{{ label }}</span><b>{{ value }}</b></div>
{% endfor %}
</div>

{% if report.steps %}
<h2>Reward</h2>
<div class="card"><div class="wide">{{ chart }}</div>
<p class="small soft">Mean reward of the rollouts of each step. Circles are held-out accuracy
with its 95 % interval.</p></div>
{% endif %}

{% if report.accuracies %}
<h2>Held-out accuracy</h2>
<div class="card wide"><table>
<thead><tr><th>verifier</th><th>before</th><th>after</th><th>difference (points)</th><th>n</th></tr>
</thead><tbody>
{% for row in report.accuracies %}
<tr{% if row.verifier == all_tasks %} class="all"{% endif %}><td>{{ row.verifier }}</td>
{% for m in (row.before, row.after) %}
<td>{% if m %}{{ percent(m.accuracy) }}
<span class="soft small">{{ "%.1f" | format(100 * m.low) }} to {{ "%.1f" | format(100 * m.high) }}
</span>{% else %}-{% endif %}</td>
{% endfor %}
<td>{{ gain_text(row.gain) if row.gain else "-" }}</td><td>{{ row.before.n }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="small soft">Intervals are at 95 %: Wilson's for an accuracy; for the difference over all
tasks a bootstrap over the tasks, which are the same before and after.</p>
{% endif %}

{% if report.steps %}
<h2>Time</h2>
<div class="card wide"><table>
<thead><tr><th>phase</th><th>seconds</th><th>per step</th><th class="bar"></th></tr></thead><tbody>
{% for phase, seconds in report.phase_seconds.items() %}
<tr><td>{{ phase }}</td><td>{{ "%.1f" | format(seconds) }}</td>
<td>{{ "" if phase in around else "%.1f" | format(seconds / (report.steps | length)) }}</td>
<td class="bar"><i style="width: {{ (100 * seconds / longest) | round(1) }}%"></i></td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}

{% if examples %}
<h2>Which tokens did the work</h2>
<p>The verifier decides the direction: every token of a right completion is reinforced, every token
of a wrong one is blamed. The teacher, the same model that has read more, decides how much.</p>
<p class="small"><span class="key praise"></span>reinforced, less to more &nbsp;
<span class="key blame"></span>blamed, less to more</p>
{% for example in examples %}
<section class="card rollout">
<p><span class="badge {{ 'right' if example.right else 'wrong' }}">{{ example.status }}</span>
<span class="soft small">{{ example.verifier }}, task {{ example.task_id }},
step {{ example.step + 1 }}, advantage {{ "%+.2f" | format(example.advantage) }}</span></p>
<div class="said">{{ example.prompt }}</div>
{% if example.privileged %}
<details class="small soft"><summary>What only the teacher read</summary>
<div class="said">{{ example.privileged }}</div></details>
{% endif %}
<div class="tokens">{% for token in example.tokens %}{{ token_span(example, token) }}{% endfor %}</div>
</section>
{% endfor %}
{% endif %}

<p class="small soft">Job <code>{{ report.job.id }}</code>{% if model %}, trained model in
<code>{{ model }}</code>{% endif %}{% if traces %}, every rollout in <code>{{ traces }}</code>
{% endif %}.</p>
</main>
</body>
</html>
"""

_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TOKEN = _ENVIRONMENT.from_string(
    '<span class="token {{ side }}" style="--much: {{ much }}" tabindex="0" '
    'data-worth="{{ worth }}">{{ text }}</span>'
)
_PAGE = _ENVIRONMENT.from_string(TEMPLATE)


def page(report: Digest, examples: Sequence[Example]) -> str:
    """The whole page."""
    spec = report.job["spec"]

    def token_span(example: Example, token: Token) -> str:
        weights = [t.weight for t in example.tokens]
        return _ENVIRONMENT.call_filter(
            "safe",
            _TOKEN.render(
                side="praise" if example.right else "blame",
                much=f"{_shade(token.weight, min(weights), max(weights)):.2f}",
                worth=worth(token),
                text=shown(token.text),
            ),
        )

    return _PAGE.render(
        style=_ENVIRONMENT.call_filter("safe", STYLE),
        name=spec["name"],
        algorithm=spec["algorithm"]["kind"],
        report=report,
        risen=report.gain is not None and report.gain["low"] > 0,
        tiles=_tiles(report),
        chart=reward_chart(report.steps, report.evaluations),
        all_tasks=ALL,
        percent=percent,
        gain_text=gain_text,
        around=AROUND_STEPS,
        longest=max(report.phase_seconds.values(), default=1.0),
        examples=examples,
        token_span=token_span,
        model=report.result.get("model"),
        traces=report.result.get("traces"),
    )


def write_page(path: str | Path, report: Digest, examples: Sequence[Example]) -> Path:
    """Write the page, whole or not at all, and answer its path."""
    path = Path(path)
    text = page(report, examples)
    with written_whole(path) as file:
        file.write(text.encode(errors="replace"))
    return path


def _tiles(report: Digest) -> list[tuple[str, str]]:
    tiles: list[tuple[str, str]] = []
    if report.accuracies:
        row = report.accuracies[0]
        after = "" if row.after is None else f" → {percent(row.after.accuracy)}"
        tiles.append(("held-out accuracy", f"{percent(row.before.accuracy)}{after}"))
    if report.steps:
        first, last = report.steps[0], report.steps[-1]
        reward = f"{float(first['reward_mean']):.3f} → {float(last['reward_mean']):.3f}"
        tiles.append(("mean reward, first to last", reward))
    if report.tokens_per_s is not None:
        tiles.append(("completion tokens/s", f"{report.tokens_per_s:.0f}"))
    if report.seconds is not None:
        tiles.append(("from start to end", duration(report.seconds)))
    return tiles


def _shade(weight: float, low: float, high: float) -> float:
    """How strongly a token is coloured, by its place among the completion's weights."""
    if high - low < 1e-6:
        return (_PALE + _FULL) / 2
    return _PALE + (_FULL - _PALE) * (weight - low) / (high - low)


def worth(token: Token) -> str:
    """What the reader sees who points at a token."""
    told = f"{json.dumps(token.text, ensure_ascii=False)}  credit {token.credit:+.3f}"
    told += f" = advantage × {token.weight:.3f}"
    if token.evidence is not None:
        told += (
            f"\nevidence {token.evidence:+.3f} nats"
            f" (teacher {token.teacher:.3f}, student {token.student:.3f})"
        )
    return told


def shown(text: str) -> str:
    """A token's text with its line ends made visible."""
    return text.replace("\r", "").replace("\n", "↵\n") or "∅"
