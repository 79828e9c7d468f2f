"""The judge of programs: the completion's code against tests, inside the sandbox.

Tests run in a process of their own; the candidate's functions are called over a
plain-data protocol, so nothing that the candidate does to its own process decides. A
program that reads standard input is judged by its standard output alone. This file only
supervises: it sends text in, reads capped reports, keeps the deadline.
"""

from __future__ import annotations

import ast
import builtins
import math
import os
import re
import select
import signal
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from verifiers.code_spec import CodeSpec
from verifiers.extract import ExtractionError, extract
from verifiers.sandbox import supervisor
from verifiers.sandbox.policy import COMPILER_LIMITS, COMPILERS, Limits
from verifiers.sandbox.protocol import ProtocolError, encode
from verifiers.sandbox.supervisor import Ending, Run, Sandbox, SandboxError
from verifiers.sandbox.tester import Candidate, CandidateGoneError, why
from verifiers.strict_json import StrictJsonError
from verifiers.verdict import Status, Verdict, clip

MAX_STDERR = 4_096
COMPILE_S = 20.0
_WANTS_NUMPY = re.compile(r"^\s*(?:import|from)\s+(?:numpy|pandas|scipy)\b", re.MULTILINE)
_NUMPY_MEMORY = 2**30
"""Address space that numpy and pandas take up before any work."""
_UNPARSED = ("SyntaxError", "IndentationError", "TabError")


@dataclass(slots=True)
class _Outcome:
    """What became of one run: tests passed, the first failure, and what it cost."""

    passed: int = 0
    failure: dict[str, Any] | None = None
    limit: str | None = None
    unparsed: bool = False
    endings: list[Ending] = field(default_factory=list[Ending])


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
    if spec.language != "python":
        outcome = _compile_and_run(spec, code, sandbox)
    elif spec.stdio is not None:
        outcome = _run_programs(spec, code, sandbox)
    else:
        outcome = _call(spec, code, sandbox) or _run_tests(spec, code, sandbox)
    return _verdict(spec, outcome, tainted=sandbox.tainted)


def _verdict(spec: CodeSpec, outcome: _Outcome, *, tainted: bool) -> Verdict:
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


def limits(spec: CodeSpec, *, numpy: bool) -> Limits:
    """What each process of a run may use."""
    memory = spec.memory_mb * 2**20 + (_NUMPY_MEMORY if numpy else 0)
    return Limits(memory, math.ceil(spec.timeout_s))


@dataclass(frozen=True, slots=True)
class _Literal:
    """A test that is no more than a call with literal arguments and a literal result."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    expect: Any


@lru_cache(maxsize=1024)
def _literals(tests: tuple[str, ...], entry_point: str) -> tuple[_Literal, ...] | None:
    """The tests as literal calls, `assert f(2) == 4`; None when one says more than that."""
    found: list[_Literal] = []
    for test in tests:
        match ast.parse(test).body:
            case [
                ast.Assert(
                    ast.Compare(ast.Call(ast.Name(name), args, keywords), [ast.Eq()], [expect])
                )
            ] if name == entry_point or not hasattr(builtins, name):
                pass
            case _:
                return None
        try:
            values = tuple(ast.literal_eval(argument) for argument in args)
            named = {str(k.arg): ast.literal_eval(k.value) for k in keywords if k.arg is not None}
            if len(named) < len(keywords):
                return None
            found.append(_Literal(name, values, named, ast.literal_eval(expect)))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return tuple(found)


def _call(spec: CodeSpec, code: str, sandbox: Sandbox) -> _Outcome | None:
    """Literal tests need no interpreter of their own: half the processes, the same judge.

    None when there is more to the tests, or the candidate answers with more than modest
    plain data: then a judge behind walls looks into it.
    """
    entry_point = spec.entry_point or _named(spec.tests or (), spec.setup)
    literals = None if spec.tests is None else _literals(spec.tests, entry_point)
    if literals is None or spec.setup or _WANTS_NUMPY.search(code):
        return None
    bounds, outcome = limits(spec, numpy=False), _Outcome()
    gone = False
    with sandbox.run("call", bounds, spec.timeout_s) as run:
        candidate = Candidate(run.narrow_channel)
        try:
            candidate.load("", _whole(spec, code))
            _compare(spec, literals, candidate, outcome)
        except TimeoutError:
            outcome.limit = "wall"
        except CandidateGoneError:
            gone = True
        except Exception as error:  # whatever the code raised while it was loaded
            reason = why(error)
            outcome.unparsed = reason.startswith(_UNPARSED)
            _fail(outcome, {"reason": clip(reason), "output": clip(candidate.printed)})
    outcome.endings = run.endings
    if gone and not _out_of_cpu(run.endings[0], bounds):
        return None
    outcome.limit = outcome.limit or ("cpu" if gone else None)
    return outcome


def _compare(
    spec: CodeSpec, literals: Sequence[_Literal], candidate: Candidate, outcome: _Outcome
) -> None:
    """Count what passes, note the first failure. Raises TimeoutError, CandidateGoneError."""
    functions: dict[str, Any] = {}
    for index, literal in enumerate(literals):
        try:
            if literal.name not in functions:
                functions[literal.name] = candidate.resolve(literal.name)
            arguments, keywords = deepcopy((literal.args, literal.kwargs))
            result = functions[literal.name](*arguments, **keywords)
            if result == literal.expect:
                outcome.passed += 1
                continue
            reason = f"AssertionError: returned {repr(result)[:200]}"
        except (TimeoutError, CandidateGoneError):
            raise
        except Exception as error:  # the candidate's, or a value that is no plain data
            reason = why(error)
        failure = {"failed": index, "test": clip(spec.shown(index))}
        _fail(outcome, failure | {"reason": clip(reason), "output": clip(candidate.printed)})
        if not spec.partial:
            return


def _whole(spec: CodeSpec, code: str) -> str:
    return _continued(spec.prompt, code) if _continues(spec, code) else code


def _run_tests(spec: CodeSpec, code: str, sandbox: Sandbox) -> _Outcome:
    job = {
        "code": _whole(spec, code),
        "setup": spec.setup,
        "entry_point": spec.entry_point or _named(spec.tests or (), spec.setup),
        "tests": spec.tests,
        "calls": None if spec.calls is None else encode([c.model_dump() for c in spec.calls]),
    }
    numpy = any(_WANTS_NUMPY.search(text) for text in (code, spec.setup, *(spec.tests or ())))
    bounds, outcome = limits(spec, numpy=numpy), _Outcome()
    kind = "numpy" if numpy else "python"
    ended = False
    with sandbox.run("test", bounds, spec.timeout_s, kind=kind) as run:
        try:
            run.channel.send(job)
            ended = _listen(run, spec, outcome)
        except TimeoutError:
            outcome.limit = "wall"
            ended = True
        except (EOFError, OSError, ProtocolError) as error:
            _fail(outcome, {"reason": f"the tests did not end: {error}"})
    outcome.endings = run.endings
    for ending in run.endings:
        if _out_of_cpu(ending, bounds) and outcome.passed < spec.count:
            outcome.limit = outcome.limit or "cpu"
        elif ending.role == "judge" and ending.code == -signal.SIGKILL and not ended:
            raise SandboxError("the judge was killed from outside")  # memory of the machine
    return outcome


@lru_cache(maxsize=1024)
def _named(tests: tuple[str, ...], setup: str) -> str:
    """The entry point of tests that name nothing but builtins: the one all of them call.

    `sum` is Python's own in `sum(f(2))`, and the candidate's when no test names anything
    else. Empty when there is another name, or no single one.
    """
    trees = [ast.parse(test) for test in tests]
    nodes = [node for tree in (ast.parse(setup), *trees) for node in ast.walk(tree)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    if any(name not in dir(builtins) for name in names):
        return ""
    called = [
        {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for tree in trees
    ]
    common = set[str].intersection(*called)
    return common.pop() if len(common) == 1 else ""


def _listen(run: Run, spec: CodeSpec, outcome: _Outcome) -> bool:
    loaded = run.channel.receive()
    if not loaded["loaded"]:
        outcome.unparsed = str(loaded["reason"]).startswith(_UNPARSED)
        _fail(outcome, {"reason": clip(loaded["reason"]), "output": clip(loaded["output"])})
        return True
    for index in range(spec.count):
        report = run.channel.receive()
        if report["passed"] is True:
            outcome.passed += 1
            continue
        _fail(
            outcome,
            {
                "failed": index,
                "test": clip(spec.shown(index)),
                "reason": clip(report["reason"]),
                "output": clip(report["output"]),
            },
        )
        if not spec.partial:
            break
    return True


def _fail(outcome: _Outcome, failure: dict[str, Any]) -> None:
    outcome.failure = outcome.failure or failure


def _out_of_cpu(ending: Ending, bounds: Limits) -> bool:
    killed = ending.code in (-signal.SIGKILL, -signal.SIGXCPU)
    return killed and ending.cpu_s >= 0.98 * bounds.cpu_s


def _continues(spec: CodeSpec, code: str) -> bool:
    """Whether the code is the rest of the prompt and not a whole by itself."""
    name = re.escape(spec.entry_point)
    return bool(spec.prompt) and not re.search(rf"^(?:async\s+)?def\s+{name}\b", code, re.M)


def _continued(prompt: str, code: str) -> str:
    """The prompt and the rest of it; extraction took the indent of the first line away."""
    last = prompt.rstrip().rsplit("\n", 1)[-1]
    indent = last[: len(last) - len(last.lstrip())]
    return f"{prompt.rstrip()}\n{'' if code[0].isspace() else indent}{code}"


def _compile_and_run(spec: CodeSpec, code: str, sandbox: Sandbox) -> _Outcome:
    if not os.access(f"/usr/bin/{COMPILERS[spec.language][0]}", os.X_OK):
        raise SandboxError(f"there is no compiler for {spec.language} on this machine")
    with sandbox.new_program() as program:
        outcome = _Outcome()
        with sandbox.run(
            "compile", COMPILER_LIMITS, COMPILE_S, kind="native", program=program
        ) as run:
            try:
                run.channel.send(spec.language)
                _, complaint = _exchange(run, code.encode(errors="replace"), 0)
                run.wait()
            except TimeoutError:
                outcome.limit, complaint = "compile", b""
        outcome.endings += run.endings
        if outcome.limit or run.endings[0].code != 0:
            said = complaint.decode(errors="replace") or "the compiler did not end"
            outcome.unparsed = outcome.limit is None
            _fail(outcome, {"reason": clip(said)})
            return outcome
        return _run_programs(spec, code, sandbox, outcome, program)


def _run_programs(
    spec: CodeSpec,
    code: str,
    sandbox: Sandbox,
    outcome: _Outcome | None = None,
    program: int = 0,
) -> _Outcome:
    """Run the code once a case; `program` is its number when it was compiled."""
    outcome = outcome or _Outcome()
    numpy = not program and _WANTS_NUMPY.search(code) is not None
    bounds = limits(spec, numpy=numpy)
    job, kind = ("native", "native") if program else ("program", "numpy" if numpy else "python")
    for index, case in enumerate(spec.stdio or ()):
        with sandbox.run(job, bounds, spec.timeout_s, kind=kind, program=program) as run:
            try:
                if not program:
                    run.channel.send(code)
                printed, complaint = _exchange(run, case.stdin.encode(), spec.max_output)
                run.wait()
                reason = _difference(case.stdout, printed)
            except TimeoutError:
                outcome.limit, reason, complaint = "wall", "no end in time", b""
            except OSError as error:  # it died before it had read its own code
                reason, complaint = f"the program died: {error}", b""
        outcome.endings += run.endings
        if reason is None:
            outcome.passed += 1
            continue
        output = clip(complaint.decode(errors="replace"))
        outcome.unparsed |= not program and index == 0 and output.startswith(_UNPARSED)
        if any(_out_of_cpu(ending, bounds) for ending in run.endings):
            outcome.limit = outcome.limit or "cpu"
        _fail(
            outcome,
            {"failed": index, "test": clip(case.stdin), "reason": clip(reason), "output": output},
        )
        if not spec.partial or outcome.limit:
            break
    return outcome


def _exchange(run: Run, given: bytes, most: int) -> tuple[bytes, bytes]:
    """Feed standard input, collect standard output and error until both are closed.

    Output beyond `most` bytes ends the run. Raises TimeoutError.
    """
    stdin, stdout, stderr = run.standard
    received = {stdout: bytearray(), stderr: bytearray()}
    left = memoryview(given)
    poll = select.poll()
    for descriptor, event in ((stdin, select.POLLOUT), (stdout, select.POLLIN)):
        poll.register(descriptor, event)
    poll.register(stderr, select.POLLIN)
    open_ends = {stdout, stderr}
    while open_ends:
        wait = run.deadline - time.monotonic()
        events = poll.poll(wait * 1e3) if wait > 0 else []
        if not events:
            raise TimeoutError("the program does not end")
        for descriptor, _ in events:
            if descriptor == stdin:
                left = left[_write(stdin, left) :]
                if not left:
                    poll.unregister(stdin)
                    run.close_descriptor(stdin)
            elif part := os.read(descriptor, 2**16):
                keep = most + 1 if descriptor == stdout else MAX_STDERR
                received[descriptor] += part[: keep - len(received[descriptor])]
                if len(received[stdout]) > most:
                    return bytes(received[stdout]), bytes(received[stderr])
            else:
                poll.unregister(descriptor)
                open_ends.discard(descriptor)
    return bytes(received[stdout]), bytes(received[stderr])


def _write(descriptor: int, data: memoryview) -> int:
    """Bytes written; all of them when nobody reads any more."""
    try:
        return os.write(descriptor, data)
    except BrokenPipeError:
        return len(data)


def _difference(expected: str, printed: bytes) -> str | None:
    """How the output differs, None when it is right but for blanks at the ends of lines."""
    found, wanted = _lines(printed.decode(errors="replace")), _lines(expected)
    if found == wanted:
        return None
    for number, (line, gold) in enumerate(zip(found, wanted, strict=False), 1):
        if line != gold:
            return f"line {number}: printed {line[:200]!r}, expected {gold[:200]!r}"
    return f"printed {len(found)} lines, expected {len(wanted)}"


def _lines(text: str) -> Sequence[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
