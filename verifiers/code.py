"""The judge of programs: the completion's code against tests, inside the sandbox.

Functions are called over a plain-data protocol by a judge outside their process (see
`functions`); a program that reads standard input is judged by its standard output alone
(see `programs`). Nothing that the candidate does to its own process decides.
"""

from __future__ import annotations

from typing import Any

from verifiers import functions, programs
from verifiers.code_run import Outcome
from verifiers.code_spec import CodeSpec
from verifiers.extract import ExtractionError, extract
from verifiers.sandbox import supervisor
from verifiers.sandbox.supervisor import Sandbox
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Status, Verdict, clip


def judge(spec: CodeSpec, completion: str, sandbox: Sandbox | None = None) -> Verdict:
    """Whether the completion's code passes the tests.

    `wrong` with the first failing test, `timeout` when time or CPU ran out, `malformed`
    when there is no code or it does not parse. Raises SandboxError when the sandbox does
    not serve.
    """
    try:
        extraction = extract(spec.extract, completion)
    except (ExtractionError, StrictJsonError) as error:
        return Verdict(0.0, "malformed", {"reason": clip(str(error))})
    code = extraction.answers[-1]
    if not code.strip():
        return Verdict(0.0, "malformed", {"reason": "no code"})
    sandbox = sandbox or supervisor.shared()
    judged = functions.judge if spec.stdio is None else programs.judge
    return _verdict(spec, judged(spec, code, sandbox), tainted=sandbox.tainted)


def _verdict(spec: CodeSpec, outcome: Outcome, *, tainted: bool) -> Verdict:
    evidence: dict[str, Any] = {"passed": outcome.passed, "tests": spec.count}
    if outcome.failure is not None:
        evidence |= outcome.failure
    if outcome.limit is not None:
        evidence["limit"] = outcome.limit
    if tainted:
        evidence["tainted"] = "run without the walls of the sandbox"
    status: Status = "wrong"
    if outcome.passed == spec.count:
        status = "correct"
    elif outcome.limit is not None:
        status = "timeout"
    elif outcome.unparsed:
        status = "malformed"
    score = outcome.passed / spec.count if spec.partial else float(status == "correct")
    cpu_ms = sum(ending.cpu_s for ending in outcome.endings) * 1e3
    return Verdict(score, status, evidence, cpu_ms=cpu_ms)
