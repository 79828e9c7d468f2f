"""A probe in words: what its numbers mean for the run, each finding with its reason.

In: what services/probe_digest.py measured. Out: findings, the gravest first. Thresholds are
here and nowhere else; knows nothing of how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["stop", "warn", "note"]
_ORDER = ("stop", "warn", "note")

NO_EVIDENCE = 0.01
"""Mean |D| in nats, or mean |weight - 1|, below which RLSD and GRPO are the same."""
CONTRAST = 0.2
EASY, HARD = 0.95, 0.02
TRUNCATED = 0.2
FAULTS = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a user should know. `stop`: training would be in vain as it is."""

    level: Level
    code: str
    message: str


def findings(
    probe: Mapping[str, Any], *, kind: str, needs_contrast: bool, alarm: float
) -> list[Finding]:
    """What the numbers say about a run of algorithm `kind`, the gravest first.

    `needs_contrast`: whether a task teaches only by the differences between its completions.
    """
    found = [*_reward(probe), *_verifier(probe), *_hint(probe, kind), *_leaks(probe, kind, alarm)]
    if needs_contrast:
        found += _contrast(probe)
    if needs_contrast and not any(f.level == "stop" for f in found):
        share = probe["contrast_share"]
        found.append(
            Finding(
                "note",
                "teaches",
                f"{share:.0%} of the groups have contrast: of each step's groups that share teaches "
                "by its rewards.",
            )
        )
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))


def _reward(probe: Mapping[str, Any]) -> Iterator[Finding]:
    if probe["pass_rate"] is None:
        yield Finding(
            "stop",
            "no_verdicts",
            f"none of {probe['completions']} completions could be judged: the verifier failed on every one.",
        )
        return
    if probe["truncated_share"] > TRUNCATED:
        yield Finding(
            "warn",
            "truncated",
            f"{probe['truncated_share']:.0%} of the completions were cut off: raise "
            "sampling.max_tokens, or ask for shorter answers.",
        )


def _contrast(probe: Mapping[str, Any]) -> Iterator[Finding]:
    tasks, completions, rate = probe["tasks"], probe["completions"], probe["pass_rate"]
    if rate is None:
        return
    if probe["contrast_share"] == 0:
        names = ", ".join(probe["groups_without_contrast"][:3])
        if probe["reward_values"] == 1:
            message = (
                f"the reward never varies: all {completions} completions of {tasks} tasks score "
                f"{probe['reward_mean']:g} ({names}, ...). Nothing can be learned from it; "
            )
        else:
            message = (
                f"none of {tasks} groups has contrast ({names}, ...): each task's completions all "
                "score the same, and rewards teach nothing; "
            )
        yield Finding("stop", "constant_reward", message + _way_out(rate))
    elif probe["contrast_share"] < CONTRAST:
        yield Finding(
            "warn",
            "little_contrast",
            f"only {probe['contrast_share']:.0%} of the groups have contrast: the rest of each step "
            "is sampled in vain; " + _way_out(rate),
        )


def _way_out(rate: float) -> str:
    if rate > EASY:
        return "the tasks are too easy: take harder ones."
    if rate < HARD:
        return (
            "the policy solves next to nothing: take easier tasks, a warm start by fine-tuning on "
            "worked answers, or look whether the answer's form is what the verifier reads "
            "(`strop verify`)."
        )
    return "a larger sampling.group_size or a higher temperature gives more of it."


def _verifier(probe: Mapping[str, Any]) -> Iterator[Finding]:
    shares = probe["verifier"]
    if 0 < (share := shares.get("infra_error", 0.0)) < 1 and share > FAULTS:
        yield Finding(
            "warn",
            "verifier_faults",
            f"{share:.1%} of the verdicts are faults of the verifier: they are left out of learning. "
            "Look at its reasons before a long run.",
        )
    if (share := shares.get("timeout", 0.0)) > FAULTS:
        yield Finding(
            "warn",
            "verifier_timeouts",
            f"{share:.1%} of the verdicts ran out of time and count as wrong: raise the task's "
            "timeout or deadlines.verify_s if right answers are among them.",
        )
    if (share := shares.get("malformed", 0.0)) > 0.5:
        yield Finding(
            "warn",
            "malformed",
            f"{share:.0%} of the completions have no answer where the verifier looks for one: say "
            "in the prompt what form it must have.",
        )


def _hint(probe: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    hinted, evidence = probe["hinted"], probe["evidence"]
    if hinted is not None:
        gap = hinted["gap"]
        told = (
            f"with the privileged context the policy solves {hinted['pass_rate']:.1%}, a gap of "
            f"{gap['difference']:+.1%} [{gap['low']:+.1%}, {gap['high']:+.1%}]"
        )
        if gap["low"] > 0:
            yield Finding("note", "hint_helps", f"{told}: there is something to distil.")
        elif gap["high"] < 0:
            yield Finding(
                "warn",
                "hint_hurts",
                f"{told}: the policy does worse when it sees the context; write another "
                "privileged.template, or show something else.",
            )
        else:
            yield Finding(
                "note",
                "hint_does_not_help",
                f"{told}: not told apart from zero by {hinted['tasks']} tasks. Distillation has "
                "little to give here; evidence may still move credit between tokens.",
            )
    if evidence is None:
        return
    if evidence["mean_abs"] < NO_EVIDENCE:
        instead = (
            "RLSD will behave as GRPO here" if kind == "rlsd" else "the teacher says nothing new"
        )
        yield Finding(
            "warn",
            "no_evidence",
            f"the hint changes nothing: {instead}, because the teacher's log-probs differ from the "
            f"policy's by {evidence['mean_abs']:.4f} nats on average.",
        )
    elif evidence["weight_spread"] is not None:
        yield Finding(
            "note",
            "evidence",
            f"evidence moves {evidence['tokens_moved']:.0%} of the tokens ({evidence['mean_abs']:.3f} "
            f"nats on average; half of it lies on {evidence['half_of_it_on']:.0%} of them); weights "
            f"differ from 1 by {evidence['weight_spread']:.3f}, and "
            f"{evidence['clipped_share']:.0%} of them are clipped.",
        )
    agreement = evidence["agreement"]
    if agreement is not None and agreement < 0.5 and evidence["mean_abs"] >= NO_EVIDENCE:
        yield Finding(
            "note",
            "evidence_disagrees",
            f"in {1 - agreement:.0%} of the pairs the teacher prefers the wrong completion: with "
            "RLSD the verifier keeps the direction; pure distillation would follow the teacher.",
        )


def _leaks(probe: Mapping[str, Any], kind: str, alarm: float) -> Iterator[Finding]:
    before, after = probe["leaks"]["unhinted"], probe["leaks"]["hinted"]
    if after is None:
        return
    name, rise = max(
        ((name, after[name] - before[name]) for name in before), key=lambda item: item[1]
    )
    if rise > alarm:
        distils = kind in ("opsd", "grpo_opsd", "sdpo")
        yield Finding(
            "warn" if distils else "note",
            "leak",
            f"under the hint the policy leaks it ({name.replace('_', ' ')} {before[name]:.0%} -> "
            f"{after[name]:.0%}): "
            + (
                f"{kind} would teach the policy to write so; ask in privileged.template not to "
                "mention the context."
                if distils
                else "a method that distils the teacher would teach the policy to write so."
            ),
        )
