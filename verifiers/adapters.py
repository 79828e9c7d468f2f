"""The verifiers as reward functions of other trainers: verl, EasyR1, TRL.

Each call goes through one pool of worker processes that this process keeps, so that no text
of a model is judged inside the trainer. A fault of ours is never a reward: TRL is told None,
which it leaves out; verl and EasyR1, which have no word for it, get an exception.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

from verifiers.pool import WorkerPool
from verifiers.verdict import Verdict

MAX_WORKERS = 8


class NoVerdictError(RuntimeError):
    """The verifier failed, not the completion: there is no reward to give."""


_pools: dict[int, WorkerPool] = {}
_starting = threading.Lock()


def shared_pool() -> WorkerPool:
    """The pool of this process: a worker for every second core, started on first use.

    SQL specs may name any database; relative paths start from the folder current then.
    A fork of the process has one of its own: threads do not come along.
    """
    with _starting:
        pool = _pools.get(os.getpid())
        if pool is None:
            workers = max(1, min(MAX_WORKERS, (os.cpu_count() or 2) // 2))
            pool = WorkerPool(workers, databases=None)
            _pools.clear()
            _pools[os.getpid()] = pool
            atexit.register(pool.close)
        return pool


os.register_at_fork(
    before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
) -> float:
    """verl's reward function: the score in [0, 1] of one completion.

    The verifier is `extra_info["verifier"]` when it is there, else `ground_truth`: a spec
    (an object, or its JSON text), or the answer to a mathematical question. `data_source`
    decides nothing. Raises SpecError for a bad spec and NoVerdictError for a fault of ours.
    """
    del data_source
    spec = (extra_info or {}).get("verifier")
    return _score(
        shared_pool().judge(read_spec(ground_truth if spec is None else spec), solution_str)
    )


def easyr1_scores(reward_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """EasyR1's reward function of type `batch`: `overall` and `accuracy` of each completion.

    An input has the completion as `response`, and as `ground_truth` what `compute_score` takes.
    """
    said = verdicts(
        [given["ground_truth"] for given in reward_inputs],
        [given["response"] for given in reward_inputs],
    )
    return [
        {"overall": _score(verdict), "accuracy": float(verdict.status == "correct")}
        for verdict in said
    ]


def trl_reward(
    completions: Sequence[Any], verifier: Sequence[Any], **columns: Any
) -> list[float | None]:
    """TRL's reward function: a score for each completion, None where there is no verdict.

    `verifier` is the data set's column of specs (objects or JSON texts); a completion is a
    text or a list of chat messages, of which the last one counts. Raises SpecError.
    """
    del columns
    cases = [
        (read_spec(spec), _text(completion))
        for spec, completion in zip(verifier, completions, strict=True)
    ]
    return [verdict.score for verdict in shared_pool().judge_many(cases)]


def verdicts(specs: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
    """Whole verdicts, evidence included, for trainers that log more than a number."""
    cases = [(read_spec(s), c) for s, c in zip(specs, completions, strict=True)]
    return shared_pool().judge_many(cases)


def read_spec(given: Any) -> Mapping[str, Any]:
    """A spec as plain data from an object, its JSON text, or the answer of a math problem."""
    if isinstance(given, Mapping):
        # Arrow fills the fields that other rows have with None; JSON text keeps a null.
        fields = cast(Mapping[str, Any], given)
        return {name: _plain(value) for name, value in fields.items() if value is not None}
    text = str(given)
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except ValueError:
            data = None  # a set, as mathematicians write one
        if isinstance(data, dict) and "kind" in data:
            return data  # pyright: ignore[reportUnknownVariableType]
    return {"kind": "math", "answer": text}


def _plain(value: Any) -> Any:
    """Lists for the arrays that pandas makes of them."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in cast("dict[str, Any]", value).items()}
    return value


def _score(verdict: Verdict) -> float:
    if verdict.score is None:
        raise NoVerdictError(f"no verdict: {verdict.evidence.get('reason')}")
    return verdict.score


def _text(completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    return str(completion[-1]["content"])
