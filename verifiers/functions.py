"""Functions under test: the candidate's process answers calls, a judge outside it compares.

Calls with plain data and tests that say no more than that are judged right here, over the
same protocol and with one process, the candidate's. Tests that say more run in a judge's
process of their own, behind the same walls, and so do answers that are more than modest
plain data: no code of the task's and no object of the candidate's comes into this process.
"""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from verifiers import plain_tests, plain_values
from verifiers.code_run import UNPARSED, Outcome, limits, out_of_cpu, wants_numpy
from verifiers.code_spec import CodeSpec
from verifiers.plain_values import Evaluation, NotPlainError
from verifiers.sandbox import tester
from verifiers.sandbox.candidate import Candidate, CandidateGoneError, LateError
from verifiers.sandbox.exceptions import why
from verifiers.sandbox.protocol import ProtocolError, encode
from verifiers.sandbox.supervisor import Run, Sandbox, SandboxError


def judge(spec: CodeSpec, code: str, sandbox: Sandbox) -> Outcome:
    """The tests or calls of the spec against the code. Raises SandboxError."""
    whole = _continued(spec.prompt, code) if _continues(spec, code) else code
    return _judged_here(spec, whole, sandbox) or _judged_behind_walls(spec, whole, sandbox)


def _judged_here(spec: CodeSpec, code: str, sandbox: Sandbox) -> Outcome | None:
    """None when this needs a judge behind walls."""
    entry_point = _entry_point(spec)
    plain = plain_tests.read(spec.tests or (), entry_point, spec.setup) is not None
    if not plain or wants_numpy(code, spec.setup):
        return None
    bounds, outcome = limits(spec, numpy=False), Outcome()
    with sandbox.run("call", bounds, spec.timeout_s) as run:
        try:
            candidate = Candidate(run.narrow_channel)
            _load_and_compare(spec, code, candidate, outcome)
        except LateError:
            outcome.limit = "wall"
        except (CandidateGoneError, NotPlainError):
            outcome = None
    if outcome is None:
        if not out_of_cpu(run.endings[0], bounds):
            return None
        outcome = Outcome(limit="cpu")
    outcome.endings = run.endings
    return outcome


def _load_and_compare(spec: CodeSpec, code: str, candidate: Candidate, outcome: Outcome) -> None:
    """Count what passes, note the first failure.

    Raises LateError, CandidateGoneError and NotPlainError.
    """
    shared = _shared(spec.setup)
    candidate.ahead(shared, code, calls=_sure_calls(spec, candidate))
    try:
        candidate.load(shared, code)
    except (LateError, CandidateGoneError):
        raise
    except Exception as error:  # whatever the code raised
        reason = why(error)
        outcome.unparsed = reason.startswith(UNPARSED)
        outcome.fail(reason, candidate.printed)
        return
    for index, reason in enumerate(_reasons(spec, candidate)):
        if not reason:
            outcome.passed += 1
            continue
        outcome.fail_test(spec, index, reason, candidate.printed)
        if not spec.partial:
            return


def _sure_calls(
    spec: CodeSpec, candidate: Candidate
) -> Iterator[tuple[str, Sequence[Any], dict[str, Any]]]:
    """The calls that will be made whatever their results, up to one that depends on another."""
    entry_point = _entry_point(spec)
    for call in spec.calls or ():
        yield entry_point, call.args, call.kwargs
    evaluation = Evaluation(candidate, entry_point)
    for parts in plain_tests.read(spec.tests or (), entry_point, spec.setup) or ():
        if spec.partial and len(parts) > 1:  # the rest of a failed test is not called
            return
        for part in parts:
            calls = evaluation.calls(part)
            if calls is None:
                return
            yield from calls


def _reasons(spec: CodeSpec, candidate: Candidate) -> Iterator[str]:
    """Why each test fails; empty when it passes."""
    entry_point = _entry_point(spec)
    evaluation = Evaluation(candidate, entry_point)
    asserted = plain_tests.read(spec.tests or (), entry_point, spec.setup) or ()
    for index in range(spec.count):
        try:
            if spec.calls is not None:
                call = spec.calls[index]
                yield tester.fault(candidate, entry_point, call.args, call.kwargs, call.expect)
            else:
                reasons = (plain_values.why_not(evaluation, part) for part in asserted[index])
                yield next(filter(None, reasons), "")
        except (LateError, CandidateGoneError, NotPlainError):
            raise
        except Exception as error:  # the candidate's, or one of the comparison's own
            yield why(error)


def _judged_behind_walls(spec: CodeSpec, code: str, sandbox: Sandbox) -> Outcome:
    tests = spec.tests or ()
    job = {
        "code": code,
        "shared": _shared(spec.setup),
        "setup": f"{_imports(spec.prompt)}\n{spec.setup}".strip("\n"),
        "entry_point": _entry_point(spec),
        "tests": [(test, plain_tests.lacks_call(test)) for test in tests],
        "calls": None if spec.calls is None else encode([c.model_dump() for c in spec.calls]),
    }
    numpy = wants_numpy(code, spec.setup, *tests)
    bounds, outcome = limits(spec, numpy=numpy), Outcome()
    ended = False
    with sandbox.run("test", bounds, spec.timeout_s, kind="numpy" if numpy else "python") as run:
        try:
            run.channel.send(job)
            _listen(run, spec, outcome)
            ended = True
        except TimeoutError:
            outcome.limit = "wall"
            ended = True
        except (EOFError, OSError, ProtocolError) as error:
            outcome.fail(f"the tests did not end: {error}")
    outcome.endings = run.endings
    for ending in run.endings:
        if out_of_cpu(ending, bounds) and outcome.passed < spec.count:
            outcome.limit = outcome.limit or "cpu"
        elif ending.role == "judge" and ending.code == -signal.SIGKILL and not ended:
            raise SandboxError("the judge was killed from outside")  # memory of the machine
    return outcome


def _listen(run: Run, spec: CodeSpec, outcome: Outcome) -> None:
    """Hear the judge's reports. Raises TimeoutError, EOFError, OSError and ProtocolError."""
    for index in range(spec.count):
        match run.narrow_channel.receive():
            case {"passed": True}:
                outcome.passed += 1
            case {"passed": False, "reason": str(reason), "output": str(output)}:
                outcome.fail_test(spec, index, reason, output)
                if not spec.partial:
                    return
            case {"unloaded": str(reason), "output": str(output)} if index == 0:
                outcome.unparsed = reason.startswith(UNPARSED)
                outcome.fail(reason, output)
                return
            case _:
                raise ProtocolError("no report")


def _entry_point(spec: CodeSpec) -> str:
    return spec.entry_point or plain_tests.named(spec.tests or (), spec.setup)


@lru_cache(maxsize=1024)
def _shared(setup: str) -> str:
    """Imports and classes of the setup, which the candidate may use; not its other code,
    which may know the answers."""
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef)
    parts = [part for part in ast.parse(setup).body if isinstance(part, kinds)]
    return "\n".join(ast.unparse(part) for part in parts)


@lru_cache(maxsize=1024)
def _imports(prompt: str) -> str:
    """Imports of the prompt: what the tests mean by those names is not the candidate's."""
    try:
        body = ast.parse(prompt).body
    except (SyntaxError, ValueError):
        return ""
    return "\n".join(ast.unparse(p) for p in body if isinstance(p, ast.Import | ast.ImportFrom))


def _continues(spec: CodeSpec, code: str) -> bool:
    """Whether the code is the rest of the prompt and not a whole by itself."""
    name = re.escape(spec.entry_point)
    return bool(spec.prompt) and not re.search(rf"^(?:async\s+)?def\s+{name}\b", code, re.M)


def _continued(prompt: str, code: str) -> str:
    """The prompt and the rest of it; extraction took the indent of the first line away."""
    last = prompt.rstrip().rsplit("\n", 1)[-1]
    indent = last[: len(last) - len(last.lstrip())]
    return f"{prompt.rstrip()}\n{'' if code[0].isspace() else indent}{code}"
