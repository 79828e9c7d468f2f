"""The leak monitor: does the policy speak of things that only its teacher could see?

A policy distilled from a teacher with privileged context may learn to write as if it saw the
context too. Three rates of a step's completions tell, each with its blind spots:

* `reference`: a phrase that refers to a solution nobody gave (PATTERNS, and the job's own);
* `early_answer`: the gold answer is among the first words, and the work comes after it;
* `overlap`: the mean share of a completion's word 5-grams that stand in the privileged text.

What the prompt itself says is no leak: its phrases, answers and n-grams do not count. A
policy that was never trained has rates above zero as well, so that a job watches how far they
rise above those of its first step, beyond what another draw of tasks does to them. A right
completion shares words with a solution because it is right: the overlap of right completions
is compared with that of right ones, of wrong ones with wrong ones, and learning is no leak.
Knows texts and verdicts only: no algorithm, no model.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.records import Group, Task
from verifiers.patterns import compile_pattern

PATTERNS = (
    # "the reference solution", "your gold answer"
    r"\b(reference|privileged|gold|ground[- ]truth) (answer|solution|response|text|trace|document)",
    # "the given solution", "the provided answer"
    r"\b(given|provided|supplied|known) (answer|solution|response)\b",
    # "the answer key", "the hint says"
    r"\b(answer|solution) (key|sheet)\b|\bthe hint\b",
    # "according to the solution", "as shown in the reference"
    r"\b(according to|as (shown|given|stated|noted|mentioned) in) "
    r"(the|that|this) (correct )?(answer|solution|response|reference|context|documents?)\b",
    # "we are told that the answer is", "I was given the solution"
    r"\b(told|given) (that )?the (correct |final )?(answer|solution|result)\b",
    # "we know the answer is", "since the answer is 12"
    r"\b(know|since|because) (that )?the (correct |final )?(answer|solution) (is|must be)\b",
    # "to match the expected result"
    r"\bto (match|reach|get|agree with|arrive at) the (expected|known|correct|given) "
    r"(answer|result|solution)\b",
)
"""RE2, in any case of letters."""

GRAM = 5
EARLY_WORDS = 8
WORK_WORDS = 12
"""Words after the first ones that make a completion more than a short answer."""
SURE = 3.0
"""Standard errors of a rise that is no accident of which tasks were drawn, though every step of
a run is looked at: the limits of a control chart."""

_WORD = re.compile(r"\w+(?:[.,/]\w+)*")


@dataclass(frozen=True, slots=True)
class Rate:
    """A mean over tasks in [0, 1], and how far another draw of tasks would move it.

    `error` is the standard error of the mean, from the variance between tasks with one more of
    1/4 among them, the most that values in [0, 1] can have: few tasks that agree are no proof.
    `tasks` counts those that have such completions.
    """

    mean: float = 0.0
    error: float = 0.0
    tasks: int = 0

    @classmethod
    def over(cls, means: Sequence[float]) -> Rate:
        """The rate of some tasks, by the mean of each."""
        if not means:
            return cls()
        mean, count = statistics.fmean(means), len(means)
        squares = sum((value - mean) ** 2 for value in means)
        return cls(mean, math.sqrt(squares + 0.25) / count, count)

    def above(self, baseline: Rate) -> float:
        """By how much it is higher, less SURE standard errors of the difference; 0 where either
        has no task to tell by."""
        if not (self.tasks and baseline.tasks):
            return 0.0
        return self.mean - baseline.mean - SURE * math.hypot(self.error, baseline.error)


@dataclass(frozen=True, slots=True)
class Leaks:
    """The three rates, and the overlap of right and of wrong completions by itself."""

    reference: Rate = Rate()
    early_answer: Rate = Rate()
    overlap: Rate = Rate()
    overlap_right: Rate = Rate()
    overlap_wrong: Rate = Rate()

    def told(self) -> dict[str, float]:
        """The three rates by name."""
        return {name: getattr(self, name).mean for name in ("reference", "early_answer", "overlap")}

    def above(self, baseline: Leaks) -> float:
        """How far the rate that rose most stands above its baseline, see Rate.above; at least 0."""
        compared = ("reference", "early_answer", "overlap_right", "overlap_wrong")
        rises = (getattr(self, name).above(getattr(baseline, name)) for name in compared)
        return max(0.0, *rises)


def measure(groups: Iterable[Group], patterns: Sequence[str] = ()) -> Leaks:
    """The rates of the completions of each task, averaged over tasks. `patterns` are added to
    the built-in ones.

    Raises verifiers.patterns.PatternError for one that RE2 does not take.
    """
    compiled = [compile_pattern(p, ignore_case=True) for p in (*PATTERNS, *patterns)]
    references, early = list[float](), list[float]()
    overlaps, right, wrong = list[float](), list[float](), list[float]()
    for group in groups:
        task = group.task
        prompt = _clean("\n".join(_texts(task)))
        telling = [pattern for pattern in compiled if not pattern.search(prompt)]
        asked = _words(prompt)
        gold = _gold(task, asked)
        secret = _grams(_words(_clean(_secret(task)))) - _grams(asked)
        texts = [_clean(rollout.text) for rollout in group.rollouts]
        references.append(_mean([any(p.search(text) for p in telling) for text in texts]))
        words = [_words(text) for text in texts]
        early.append(_mean([_stated_first(gold, said) for said in words]))
        shares = [
            (len(grams & secret) / len(grams), verdict)
            for said, verdict in zip(words, group.verdicts, strict=True)
            if secret and (grams := _grams(said))
        ]
        judged = [(share, v.status == "correct") for share, v in shares if v.score is not None]
        for means, found in (
            (overlaps, [share for share, _ in shares]),
            (right, [share for share, correct in judged if correct]),
            (wrong, [share for share, correct in judged if not correct]),
        ):
            means += [_mean(found)] if found else []
    return Leaks(*map(Rate.over, (references, early, overlaps, right, wrong)))


class LeakWatch:
    """The rates of a job's steps against those of its first, which are kept in a file: a job
    that is resumed is measured by the policy it began with."""

    def __init__(self, file: Path, patterns: Sequence[str] = ()) -> None:
        self._file = file
        self._patterns = patterns
        self._baseline: Leaks | None = None

    def metrics(self, groups: Iterable[Group]) -> dict[str, float]:
        """`leak_reference`, `leak_early_answer`, `leak_overlap`, and `leak_rise`: how far the
        one that rose most stands above the first step, see Leaks.above."""
        leaks = measure(groups, self._patterns)
        if self._baseline is None:
            self._baseline = self._first(leaks)
        rates = {f"leak_{name}": value for name, value in leaks.told().items()}
        return {**rates, "leak_rise": leaks.above(self._baseline)}

    def _first(self, leaks: Leaks) -> Leaks:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return Leaks(**{name: Rate(**rate) for name, rate in kept.items()})
        except FileNotFoundError:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(leaks)), encoding="utf-8")
            os.replace(partial, self._file)
            return leaks


def _texts(task: Task) -> list[str]:
    texts: list[str] = []
    for message in task.messages:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content
        texts += [part.get("text", "") for part in parts]
    return texts


def _secret(task: Task) -> str:
    hidden = task.privileged
    return "\n".join([hidden.answer or "", hidden.trace or "", *hidden.documents])


def _gold(task: Task, asked: Sequence[str]) -> list[str]:
    """The gold answer as words; none where it has no form of its own: a single letter, or
    words that the prompt says."""
    answer = task.privileged.answer or task.verifier.get("answer")
    words = _words(_clean(answer)) if isinstance(answer, str) else []
    if words == [word for word in words if len(word) == 1 and word.isalpha()]:
        return []
    return [] if _stands_in(words, asked) else words


def _stated_first(gold: Sequence[str], words: Sequence[str]) -> bool:
    if not gold or len(words) < EARLY_WORDS + WORK_WORDS:
        return False
    return _stands_in(gold, words[:EARLY_WORDS])


def _stands_in(part: Sequence[str], whole: Sequence[str]) -> bool:
    n = len(part)
    return any(list(whole[i : i + n]) == list(part) for i in range(len(whole) - n + 1))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _clean(text: str) -> str:
    """Text that RE2 takes: a lone surrogate is no character."""
    return text.encode("utf-8", "replace").decode("utf-8")
