"""What is claimed of RLSD, and what was measured of it.

Every claim is a difference between two arms (or two moments of them) on the same seed, with a
95 % interval over seeds. It holds when the whole interval is on the claimed side, is
contradicted when the whole interval is on the other, and is undecided otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.learning.arms import ARMS
from benchmarks.learning.puzzles import FAMILIES
from benchmarks.learning.results import (
    MEASURES,
    Interval,
    Measure,
    Row,
    accuracy_at,
    by_seed,
    interval,
)

Arms = Mapping[str, Mapping[int, Row]]


def _halfway(row: Row) -> float:
    return accuracy_at(row, 0.5)


def _ended(row: Row) -> float:
    return accuracy_at(row, 1.0)


CHOSEN, FINAL, CURVE = MEASURES["chosen"], MEASURES["final"], MEASURES["curve"]


@dataclass(frozen=True, slots=True)
class Claim:
    """`left` minus `right` is claimed to be above 0 (`more`) or not above it."""

    text: str
    left: tuple[str, Measure]
    right: tuple[str, Measure]
    more: bool = True


def _beats(other: str, label: str) -> list[Claim]:
    return [
        Claim(f"RLSD beats {label}: {name}", ("rlsd", measure), (other, measure))
        for name, measure in (("pass@1 of the chosen checkpoint", CHOSEN), ("mean of curve", CURVE))
    ]


CLAIMS = [
    Claim("RLSD beats the base: pass@1 of the chosen checkpoint", ("rlsd", CHOSEN), ("base", CHOSEN)),
    *_beats("grpo", "GRPO"),
    *_beats("opsd", "OPSD"),
    *_beats("grpo_opsd", "GRPO+OPSD"),
    Claim("RLSD is at half of the steps where GRPO ends", ("rlsd", _halfway), ("grpo", _ended)),
    Claim("RLSD does not leak: completions that refer to the hint, against the base",
          ("rlsd", MEASURES["refers"]), ("base", MEASURES["refers"]), more=False),
    Claim("RLSD does not leak: the same, against GRPO, which sees no hint",
          ("rlsd", MEASURES["refers"]), ("grpo", MEASURES["refers"]), more=False),
    Claim("OPSD leaks: the same, against the base", ("opsd", MEASURES["refers"]), ("base", MEASURES["refers"])),
    Claim("RLSD does not collapse: its best validation accuracy over its last",
          ("rlsd", lambda row: 100 * row["validation"]), ("rlsd", _ended), more=False),
    Claim("OPSD collapses: the base's pass@1 over OPSD's at the end",
          ("base", FINAL), ("opsd", FINAL)),
]  # fmt: skip

CONTROLS = [
    Claim(f"RLSD over {label}: {name}", ("rlsd", measure), (other, measure))
    for other, label in (
        ("rlsd_shuffled_answers", "a teacher told another task's answer"),
        ("rlsd_random_weights", "the same weights on random tokens"),
        ("rlsd_normalised", "weights with mean 1"),
        ("grpo_compute", "GRPO with the teacher's compute"),
        ("grpo_twice", "GRPO for twice the steps"),
    )
    for name, measure in (
        [("pass@1 of the chosen checkpoint", CHOSEN)]
        if other == "grpo_twice"
        else [("pass@1 of the chosen checkpoint", CHOSEN), ("mean of curve", CURVE)]
    )
]


def rates_table(rows: Sequence[Row]) -> str:
    """Every arm against GRPO where both were run at another rate too, on three seeds or more."""
    lines = ["| family | learning rate | arm | pass@1 at the end, against GRPO | mean of curve, "
             "against GRPO | seeds |", "|---|---|---|---|---|---|"]  # fmt: skip
    for family in FAMILIES:
        for rate in sorted({row["learning_rate"] for row in rows}):
            arms = by_seed(
                row for row in rows if (row["family"], row["learning_rate"]) == (family, rate)
            )
            for arm in ARMS:
                final, curve = (
                    measured(Claim("", (arm, measure), ("grpo", measure)), arms)
                    for measure in (FINAL, CURVE)
                )
                if arm != "grpo" and final is not None and curve is not None and final.n > 2:
                    cells = [family, f"{rate:g}", arm, f"{final:+}", f"{curve:+}", str(final.n)]
                    lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def grid_table(rows: Sequence[Row]) -> str:
    """What every algorithm did at every rate of the grid: mean of curve, and at its last step
    accuracy and completions that refer to the hint. Percent, mean over seeds."""
    cells: dict[tuple[str, str], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row["family"], row["arm"]][row["learning_rate"]].append(row)
    rates = sorted({row["learning_rate"] for row in rows})
    lines = ["| family | arm | " + " | ".join(f"at {rate:g}" for rate in rates) + " |",
             "|---" * (len(rates) + 2) + "|"]  # fmt: skip
    for (family, arm), of_rate in cells.items():
        shown = [
            f"{fmean(CURVE(row) or 0.0 for row in found):.1f} / "
            f"{100 * fmean(row['curve'][-1]['accuracy'] for row in found):.0f} / "
            f"{100 * fmean(row['curve'][-1]['refers'] for row in found):.1f}"
            for found in (of_rate[rate] for rate in rates)
        ]
        lines.append(f"| {family} | {arm} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def starts_table(rows: Sequence[Row]) -> str:
    """What the warm start of each family had reached."""
    starts = {row["family"]: row["start"] for row in rows}
    lines = ["| family | steps | pass@1 without the hint | with the hint |", "|---|---|---|---|"]
    for family in FAMILIES:
        if family in starts:
            reached = starts[family]
            lines.append(f"| `{family}` | {reached['steps']} | {100 * reached['accuracy']:.0f} % | "
                         f"{100 * reached['hinted']:.0f} % |")  # fmt: skip
    return "\n".join(lines)


def measured(claim: Claim, arms: Arms) -> Interval | None:
    """The difference over the seeds that both arms have; None without any."""
    (left, of_left), (right, of_right) = claim.left, claim.right
    pairs = [
        (of_left(arms[left][seed]), of_right(arms[right][seed]))
        for seed in sorted(arms.get(left, {}).keys() & arms.get(right, {}).keys())
    ]
    found = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    return interval(found) if len(found) > 1 else None


def verdict(claim: Claim, found: Interval) -> str:
    """holds, contradicted or undecided; a claim of no more holds where more is not shown."""
    if not claim.more:
        return "contradicted" if found.low > 0 else "not contradicted"
    if found.low > 0:
        return "**holds**"
    return "contradicted" if found.high < 0 else "undecided"


def claims_table(rows: Sequence[Row], claims: Sequence[Claim]) -> str:
    """One line a claim, one column a family that was run: the difference in points, the verdict."""
    of_family = {
        family: by_seed(row for row in rows if row["family"] == family) for family in FAMILIES
    }
    shown = [family for family in FAMILIES if of_family[family]]
    lines = [
        "| " + " | ".join(["difference, in points", *shown]) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for claim in claims:
        cells = [claim.text]
        for family in shown:
            found = measured(claim, of_family[family])
            cells.append("" if found is None else f"{found:+}, {verdict(claim, found)}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
