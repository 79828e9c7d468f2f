"""`strop verify` without its options: lines in, verdict lines out, in order, at any length."""

import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from verifiers.pool import WorkerPool
from verifiers.verify_lines import verify, verify_with

TWELVE = {"kind": "math", "answer": "12"}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    with WorkerPool(2, databases=[tmp_path_factory.mktemp("databases")]) as pool:
        yield pool


def lines(cases: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(case) + "\n" for case in cases]


def told(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_verdicts_come_in_the_order_of_the_lines(pool: WorkerPool):
    cases = [
        {"id": n, "verifier": TWELVE, "completion": f"The answer is {n % 13}."} for n in range(200)
    ]
    cases[3]["verifier"] = {"kind": "math", "answer": "\\ln 5"}
    cases[3]["completion"] = "\\boxed{\\prod_{k=1}^{9999} \\ln(k)}"  # takes its time
    output = io.StringIO()
    tally = verify(lines(cases), output, pool, window=16)
    found = told(output)
    assert [verdict["id"] for verdict in found] == list(range(200))
    assert [n for n, v in enumerate(found) if v["status"] == "correct"] == list(range(12, 200, 13))
    assert found[3]["status"] == "timeout"
    assert set(found[0]) == {"id", "score", "status", "evidence", "cpu_ms", "wall_ms"}
    assert (tally.judged, tally.correct, tally.clean) == (200, 15, True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no json", "line 1: not JSON"), ("[1]", "no JSON object"), ("{}", "no object `verifier`"),
        ('{"id": 1, "verifier": {"kind": "math", "answer": "1"}}', "no text `completion`"),
        ('{"id": 1, "verifier": {"kind": "mth"}, "completion": ""}', "is no verifier"),
        ('{"id": 1, "verifier": {"kind": "math"}, "completion": ""}', "answer: Field required"),
        ('{"id": 1, "verifier": {}, "completion": "", "more": 1}', "unknown field 'more'"),
        ('{"id": 1, "verifier": {"kind": "sql", "database": "/etc/x", "query": "a"},'
         ' "completion": ""}', "lies outside"),
        ('{"id": 1, "id": 2}', "stands twice"),
        ('{"id": "\udcff"}', "line 1: is not UTF-8"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_case_is_an_error_and_no_verdict(pool: WorkerPool, line: str, says: str):
    output = io.StringIO()
    good = {"id": "good", "verifier": TWELVE, "completion": "12"}
    tally = verify([line, *lines([good])], output, pool)
    bad, verdict = told(output)
    assert says in bad["error"]
    assert "status" not in bad
    assert (verdict["id"], verdict["status"]) == ("good", "correct")
    assert (tally.errors, tally.judged, tally.clean) == (1, 1, False)


def test_a_fault_of_ours_has_no_score(pool: WorkerPool):
    spec = {"kind": "sql", "database": "absent.sqlite", "query": "SELECT 1"}
    output = io.StringIO()
    tally = verify(lines([{"id": None, "verifier": spec, "completion": "SELECT 1"}]), output, pool)
    (verdict,) = told(output)
    assert (verdict["score"], verdict["status"]) == (None, "infra_error")
    assert not tally.clean


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it(pool: WorkerPool):
    output = io.StringIO()
    case = {"id": 1, "verifier": TWELVE, "completion": "12"}
    assert verify(["\ufeff" + lines([case])[0]], output, pool).clean


def test_blank_lines_and_odd_text_pass(pool: WorkerPool):
    case = {"id": "ü", "verifier": TWELVE, "completion": "\\boxed{\ud800}"}
    output = io.StringIO()
    assert verify(["\n", "  \n", *lines([case])], output, pool).judged == 1
    assert told(output)[0]["id"] == "ü"
    assert output.getvalue().encode()


def test_a_verdict_is_written_as_soon_as_those_before_it_are_known(pool: WorkerPool):
    output = io.StringIO()

    def slowly() -> Iterator[str]:
        yield from lines([{"id": 1, "verifier": TWELVE, "completion": "12"}])
        deadline = time.monotonic() + 30
        while not output.getvalue():
            assert time.monotonic() < deadline, "no verdict while the stream goes on"
            time.sleep(0.01)

    verify(slowly(), output, pool)
    assert told(output)[0]["status"] == "correct"


def test_it_brings_its_own_pool_when_it_has_none():
    output = io.StringIO()
    cases = lines([{"id": 1, "verifier": TWELVE, "completion": "12"}])
    assert verify_with(cases, output, workers=1).clean


def test_an_output_that_fails_ends_the_run(pool: WorkerPool):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left")

    cases = lines([{"id": n, "verifier": TWELVE, "completion": "12"} for n in range(50)])
    with pytest.raises(OSError, match="no space left"):
        verify(cases, Full(), pool, window=4)


@pytest.mark.parametrize("command", [["strop"], [sys.executable, "-m", "services.cli"]])
def test_the_command_works_in_any_folder_and_reads_the_databases_that_lines_name(
    tmp_path: Path, command: list[str]
):
    """As installed: what is imported is found without a hint from where we stand."""
    program = Path(sys.executable).parent / command[0]
    if command == ["strop"] and not program.exists():
        pytest.skip("strop is not installed beside this interpreter")
    with sqlite3.connect(tmp_path / "shop.sqlite") as database:
        database.execute("CREATE TABLE item (name TEXT)")
    database.close()
    sql = {"kind": "sql", "database": "shop.sqlite", "query": "SELECT name FROM item"}
    specs = [{"kind": "code", "tests": ["assert f(2) == 4"]}, sql]
    answers = ["def f(x): return 2 * x", "SELECT item.name FROM item"]
    lines = [
        json.dumps({"id": n, "verifier": spec, "completion": answer})
        for n, (spec, answer) in enumerate(zip(specs, answers, strict=True))
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ended = subprocess.run(
        [str(program), *command[1:], "verify", "--workers", "1"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line)["status"] for line in ended.stdout.splitlines()] == ["correct"] * 2
