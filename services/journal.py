"""The journal: what the training loop tells, as events in the store.

Turns judged groups and learner metrics into the numbers people watch. Knows the store and
the records of the loop, not how anything was computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from services.config import JobSpec
from services.histograms import REWARD_BOUNDS, counted, nested
from services.jobs import EventLevel, EventType
from services.pipeline import Judged, Sampled
from services.statistics import Difference, paired_difference, wilson
from services.store import Store


class StoreJournal:
    """Writes one job's events under the token of a claim.

    What a resumed job does again is told once: such an event has a key. `told` counts what
    was told, again or not. Raises Fenced when the claim is over, and StoreUnavailable only
    when the store was away for a minute.
    """

    def __init__(self, store: Store, job_id: str, job: JobSpec, token: int) -> None:
        self.told = 0
        self._store = store
        self._job_id = job_id
        self._job = job
        self._token = token
        self._started: tuple[float, int] | None = None  # when the first step of this run began
        self._correct: dict[int, Sequence[float | None]] = {}
        self._leaking = False
        self._metrics: dict[str, float] = {}  # of the newest step, for its checkpoint
        self._accuracy: float | None = None

    async def recall(self) -> None:
        """Know what was told before: the events of earlier runs of the job."""
        last = 0
        while page := await self._store.events(self._job_id, after=last):
            for event in page:
                self._remember(event.data)
            last = page[-1].id

    def _remember(self, data: Mapping[str, Any]) -> None:
        if data.get("kind") == "evaluation":
            self._correct[data["step"]] = data["correct"]
            self._accuracy = data["accuracy"]
        elif data.get("kind") == "step":
            self._leaking = data.get("leak_rise", 0.0) > self._job.leakage.alarm

    def has_evaluated(self, step: int) -> bool:
        """Whether the policy after `step` steps was evaluated."""
        return step in self._correct

    async def note(
        self, message: str, level: EventLevel = "info", *, key: str | None = None
    ) -> None:
        """Tell a person something; what has a key only once in the life of the job."""
        await self._append(message, {"kind": "note"}, key, level=level)

    async def warn(self, message: str) -> None:
        """Tell of something that went wrong and was mended."""
        await self.note(message, level="warn")

    async def phase(self, name: str, step: int) -> None:
        """A phase begins."""
        await self._append(
            f"{name} ({step}/{self._job.steps})",
            {"kind": "phase", "phase": name, "step": step},
            f"phase:{name}:{step}",
        )

    async def sampled(self, step: int, sampled: Sampled) -> None:
        """A step's groups are judged; tell when they teach nothing."""
        groups = sampled.groups
        if not self._job.needs_contrast or any(group.has_contrast for group in groups):
            return
        scores = sorted({score for group in groups for score in group.scores if score is not None})
        seen = ", ".join(f"{score:g}" for score in scores[:5]) or "none"
        await self.note(
            f"step {step + 1}: in none of {len(groups)} groups do completions differ in reward "
            f"(rewards seen: {seen}; the first task is {groups[0].rolled.task.id!r}), so "
            f"{self._job.algorithm.kind} learns nothing from it; "
            "if this stays, the tasks are too easy or too hard, or their verifiers always agree",
            level="warn",
            key=f"flat:{step + 1}",
        )

    async def learned(
        self,
        step: int,
        sampled: Sampled,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None:
        """A step is done: reward, learning and cost in one event."""
        took = sum(seconds.values()) + sum(sampled.seconds.values())
        began, first = self._started = self._started or (monotonic() - took, step)
        done, steps = step + 1, self._job.steps
        tokens = sum(group.rolled.tokens for group in sampled.groups)
        completions = sum(len(group.scores) for group in sampled.groups)
        phases = {**sampled.seconds, **seconds}
        scores = _scores(sampled.groups)
        reward = statistics.fmean(scores) if scores else 0.0
        data = {
            **nested(metrics),
            "kind": "step",
            "step": done,
            "steps": steps,
            "version": done,
            "reward_mean": reward,
            "rewards": {
                kind: statistics.fmean(own)
                for kind, groups in by_verifier(sampled.groups).items()
                if (own := _scores(groups))
            },
            "completion_tokens": tokens,
            "completion_length_mean": tokens / max(1, completions),
            "tokens_per_s": tokens / max(1e-9, phases["rollout"]),
            "phase_seconds": phases,
            "weight_seconds": phases["publish"],
            "staleness": statistics.fmean(step - group.rolled.version for group in sampled.groups),
            "groups": len(sampled.groups),
            "zero_variance_groups": sum(not group.has_contrast for group in sampled.groups),
            "infra_errors": sum(group.statuses.count("infra_error") for group in sampled.groups),
            "reward_histogram": counted(scores, REWARD_BOUNDS),
            "holdout_accuracy": self._accuracy,
            "zero_variance_share": sum(not group.has_contrast for group in sampled.groups)
            / max(1, len(sampled.groups)),
            "refilled_groups": sampled.refilled,
            "dropped_stale": sampled.dropped,
            "seconds_left": (monotonic() - began) / (done - first) * (steps - done),
        }
        await self._append(
            f"step {done}/{steps}: reward {reward:.3f}", data, f"step:{done}", type="metrics"
        )
        self._metrics = {
            name: metrics[name] for name in ("loss", "grad_norm", "kl_start") if name in metrics
        } | {"reward_mean": reward}
        await self._watch_leaks(done, metrics.get("leak_rise", 0.0))

    async def _watch_leaks(self, step: int, rise: float) -> None:
        """Warn when the leak rates cross the job's alarm, once for each crossing."""
        alarm = self._job.leakage.alarm
        if rise > alarm and not self._leaking:
            await self.note(
                f"step {step}: privileged context leaks: a leak rate stands {rise:.2f} above that of "
                f"the first step (leakage.alarm {alarm:g}); look at the completions",
                level="warn",
                key=f"leak:{step}",
            )
        self._leaking = rise > alarm

    async def evaluated(self, step: int, judged: Sequence[Judged]) -> None:
        """Held-out accuracy, with its 95 % interval, overall and by verifier."""
        self._correct[step] = [_correct(group) for group in judged]
        found = _accuracy(judged)
        data = {
            "kind": "evaluation",
            "step": step,
            "correct": self._correct[step],  # by task: what a run that resumes compares with
            **found,
            "by_verifier": {
                kind: _accuracy(groups) for kind, groups in by_verifier(judged).items()
            },
        }
        self._accuracy = found["accuracy"]
        text = (
            f"held-out accuracy {found['accuracy']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        )
        await self._append(f"{text} after {step} steps", data, f"evaluation:{step}", type="metrics")

    async def saved(self, step: int, path: str) -> None:
        """A checkpoint lies on disk."""
        await self._append(
            f"checkpoint of step {step}: {path}",
            {"kind": "checkpoint", "step": step, "path": path},
            f"checkpoint:{step}",
        )
        keep = self._job.checkpoint.keep
        await self._store.add_checkpoint(
            self._job_id, self._token, step, path, self._metrics, keep=keep
        )

    async def not_saved(self, step: int, reason: str) -> None:
        """The disk refused a checkpoint."""
        await self.note(
            f"{reason}; the checkpoint before it stays, and this one is tried again", level="warn"
        )

    def gain(self) -> Difference | None:
        """Last held-out accuracy minus the first, paired by task; None without both."""
        if len(self._correct) < 2:
            return None
        first, last = self._correct[min(self._correct)], self._correct[max(self._correct)]
        judged = [
            (a, b) for a, b in zip(first, last, strict=True) if a is not None and b is not None
        ]
        if not judged:
            return None
        before, after = zip(*judged, strict=True)
        return paired_difference(before, after)

    async def result(self, data: Mapping[str, Any]) -> None:
        """Where everything lies."""
        await self._append(f"trained model: {data['model']}", {"kind": "result", **data}, "result")

    async def _append(
        self,
        message: str,
        data: Mapping[str, Any],
        key: str | None,
        *,
        type: EventType = "message",
        level: EventLevel = "info",
    ) -> None:
        self.told += 1
        await self._store.append_event(
            self._job_id,
            level=level,
            message=message,
            type=type,
            data=data,
            token=self._token,
            key=key,
        )


def by_verifier(groups: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The groups by the kind of their verifier."""
    kinds: dict[str, list[Judged]] = {}
    for group in groups:
        kinds.setdefault(str(group.rolled.task.verifier["kind"]), []).append(group)
    return kinds


def _scores(groups: Sequence[Judged]) -> list[float]:
    return [score for group in groups for score in group.scores if score is not None]


def _correct(group: Judged) -> float | None:
    """Share of a task's judged completions that are correct; None when none was judged."""
    judged = [status == "correct" for status in group.statuses if status != "infra_error"]
    return statistics.fmean(judged) if judged else None


def _accuracy(groups: Sequence[Judged]) -> dict[str, float]:
    outcomes = [
        status == "correct"
        for group in groups
        for status in group.statuses
        if status != "infra_error"
    ]
    low, high = wilson(sum(outcomes), len(outcomes))
    accuracy = sum(outcomes) / len(outcomes) if outcomes else 0.0
    return {"accuracy": accuracy, "low": low, "high": high, "n": len(outcomes)}
