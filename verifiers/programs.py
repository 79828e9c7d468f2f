"""Whole programs: compiled once if need be, run once a case, judged by what they print.

Nothing but standard output decides: not the exit code, not standard error.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from verifiers.code_run import UNPARSED, Outcome, limits, out_of_cpu, wants_numpy
from verifiers.code_spec import CodeSpec
from verifiers.sandbox.policy import COMPILER_LIMITS, COMPILERS
from verifiers.sandbox.supervisor import Run, Sandbox, SandboxError

MAX_STDERR = 4_096
COMPILE_S = 20.0


def judge(spec: CodeSpec, code: str, sandbox: Sandbox) -> Outcome:
    """The code as a whole program against the cases of the spec. Raises SandboxError."""
    if spec.language == "python":
        return _run_all(spec, code, sandbox, Outcome())
    if not os.access(f"/usr/bin/{COMPILERS[spec.language][0]}", os.X_OK):
        raise SandboxError(f"there is no compiler for {spec.language} on this machine")
    outcome = Outcome()
    with sandbox.new_program() as program:
        if _compile(spec, code, sandbox, outcome, program):
            _run_all(spec, "", sandbox, outcome, program)
    return outcome


def _compile(spec: CodeSpec, code: str, sandbox: Sandbox, outcome: Outcome, program: int) -> bool:
    with sandbox.run("compile", COMPILER_LIMITS, COMPILE_S, kind="native", program=program) as run:
        try:
            run.channel.send(spec.language)
            _, complaint = _exchange(run, code.encode(errors="replace"), 0)
            run.wait()
        except TimeoutError:
            outcome.limit, complaint = "compile", b""
    outcome.endings += run.endings
    if outcome.limit is None and run.endings[0].code == 0:
        return True
    outcome.unparsed = outcome.limit is None
    outcome.fail(complaint.decode(errors="replace") or "the compiler did not end")
    return False


def _run_all(
    spec: CodeSpec, code: str, sandbox: Sandbox, outcome: Outcome, program: int = 0
) -> Outcome:
    """Run the code once a case; `program` is its number when it was compiled."""
    numpy = wants_numpy(code)
    bounds = limits(spec, numpy=numpy)
    job, kind = ("native", "native") if program else ("program", "numpy" if numpy else "python")
    for index, case in enumerate(spec.stdio or ()):
        with sandbox.run(job, bounds, spec.timeout_s, kind=kind, program=program) as run:
            try:
                if not program:
                    run.channel.send(code)
                given = case.stdin.encode(errors="replace")
                printed, complaint = _exchange(run, given, spec.max_output)
                reason = _difference(case.stdout, printed)
            except TimeoutError:
                outcome.limit, reason, complaint = "wall", "no end in time", b""
            except OSError as error:  # it died before it had read its own code
                reason, complaint = f"the program died: {error}", b""
        outcome.endings += run.endings
        if reason is None:
            outcome.passed += 1
            continue
        output = complaint.decode(errors="replace")
        outcome.unparsed |= not program and index == 0 and output.startswith(UNPARSED)
        if any(out_of_cpu(ending, bounds) for ending in run.endings):
            outcome.limit = outcome.limit or "cpu"
        outcome.fail_test(spec, index, reason, output)
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
