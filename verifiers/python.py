"""The judge that asks a grading function of the user's, run behind the sandbox's walls."""

from __future__ import annotations

import math
import signal
from typing import Any, cast

from verifiers.code_spec import PythonSpec
from verifiers.extract import ExtractionError, extract
from verifiers.sandbox import supervisor
from verifiers.sandbox.policy import Limits
from verifiers.sandbox.protocol import ProtocolError
from verifiers.sandbox.supervisor import Sandbox
from verifiers.strict_json import StrictJsonError
from verifiers.templates import sample_of
from verifiers.verdict import Verdict, clip


def judge(spec: PythonSpec, completion: str, sandbox: Sandbox | None = None) -> Verdict:
    """The score that the function gives; `timeout` when its time or CPU ran out.

    A function that raises, or returns no number from 0 to 1, has said nothing about the
    completion: `infra_error`. Raises SandboxError when the sandbox does not serve.
    """
    try:
        extraction = extract(spec.extract, completion)
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", {"reason": clip(str(error))})
    sandbox = sandbox or supervisor.shared()
    limits = Limits(spec.memory_mb * 2**20, math.ceil(spec.timeout_s))
    job = {
        "source": spec.source,
        "sample": sample_of(extraction.answers[-1]),
        "item": spec.item,
    }
    reply: dict[str, Any] = {}
    limit = None
    with sandbox.run("grade", limits, spec.timeout_s) as run:
        try:
            run.channel.send(job)
            received = run.narrow_channel.receive()
            if type(received) is not dict:
                raise ProtocolError("an answer that is no object")
            reply = cast("dict[str, Any]", received)
        except TimeoutError:
            limit = "wall"
        except (EOFError, OSError, ProtocolError) as error:
            reply = {"reason": f"the function did not end: {error}"}
    (ending,) = run.endings
    if ending.code == -signal.SIGKILL and ending.cpu_s >= 0.98 * limits.cpu_s:
        limit = limit or "cpu"
    evidence: dict[str, Any] = {"extracted": clip(extraction.answers[-1])}
    if sandbox.tainted:
        evidence["tainted"] = "run without the walls of the sandbox"
    cpu_ms = ending.cpu_s * 1e3
    if limit is not None:
        return Verdict(0.0, "timeout", evidence | {"limit": limit}, cpu_ms=cpu_ms)
    score = reply.get("score")
    if not isinstance(score, float) or not 0.0 <= score <= 1.0:
        reason = clip(str(reply.get("reason", "no score")))
        return Verdict(None, "infra_error", evidence | {"reason": reason}, cpu_ms=cpu_ms)
    status = "correct" if score >= spec.pass_threshold else "wrong"
    return Verdict(score, status, evidence, cpu_ms=cpu_ms)
