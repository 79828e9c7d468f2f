"""One door to every judge, in this process.

The judges are pure, but math may run sympy on what a model wrote: a service calls them
through `pool.WorkerPool`, which can kill what does not end.
"""

from __future__ import annotations

import time
from contextlib import suppress

from verifiers import (
    choice,
    code,
    composite,
    math,
    model_grader,
    multi,
    python,
    remote,
    schema,
    similarity,
    sql,
    string_check,
    text,
)
from verifiers.code_spec import CodeSpec, PythonSpec
from verifiers.grader_specs import StringCheckSpec, TextSimilaritySpec
from verifiers.model_specs import LabelModelSpec, ScoreModelSpec
from verifiers.remote_spec import RemoteSpec
from verifiers.spec import (
    AnySpec,
    ChoiceSpec,
    CompositeSpec,
    MathSpec,
    MultiSpec,
    SchemaSpec,
    TextSpec,
)
from verifiers.sql_session import UnavailableError
from verifiers.sql_spec import SqlSpec
from verifiers.verdict import Verdict

MAX_COMPLETION = 4 * 2**20
"""Characters; far more than any context window holds."""


def judge(spec: AnySpec, completion: str) -> Verdict:
    """The verdict on one completion, with its cost in CPU (of all processes) and wall time.

    Raises SandboxError for kinds that run code, when the sandbox does not serve.
    """
    wall, cpu = time.perf_counter(), time.thread_time()
    verdict = _judge(spec, completion)
    return Verdict(
        verdict.score,
        verdict.status,
        verdict.evidence,
        cpu_ms=verdict.cpu_ms + (time.thread_time() - cpu) * 1e3,
        wall_ms=(time.perf_counter() - wall) * 1e3,
    )


def prepare(spec: AnySpec) -> None:
    """Do what a task needs once, so that it does not count against a completion's time."""
    if isinstance(spec, CompositeSpec):
        for verifier in spec.verifiers:
            prepare(verifier)
    if isinstance(spec, MultiSpec):
        for verifier in spec.graders.values():
            prepare(verifier)
    if isinstance(spec, TextSimilaritySpec):
        similarity.prepare()
    if isinstance(spec, SqlSpec):
        with suppress(UnavailableError):  # the judge will say so
            sql.prepare(spec)


def _judge(spec: AnySpec, completion: str) -> Verdict:
    if len(completion) > MAX_COMPLETION:
        reason = f"a completion of {len(completion)} characters"
        return Verdict(0.0, "malformed", {"reason": reason})
    match spec:
        case MathSpec():
            return math.judge(spec, completion)
        case CodeSpec():
            return code.judge(spec, completion)
        case SchemaSpec():
            return schema.judge(spec, completion)
        case ChoiceSpec():
            return choice.judge(spec, completion)
        case TextSpec():
            return text.judge(spec, completion)
        case CompositeSpec():
            return composite.judge(spec, completion, _judge)
        case RemoteSpec():
            return remote.judge(spec, completion)
        case SqlSpec():
            return sql.judge(spec, completion)
        case PythonSpec():
            return python.judge(spec, completion)
        case StringCheckSpec():
            return string_check.judge(spec, completion)
        case TextSimilaritySpec():
            return similarity.judge(spec, completion)
        case ScoreModelSpec() | LabelModelSpec():
            return model_grader.judge(spec, completion)
        case MultiSpec():
            return multi.judge(spec, completion, _judge)
