"""Facts about the judge of Python programs, on the real sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from verifiers import code, functions
from verifiers.sandbox.supervisor import Sandbox
from verifiers.spec import SpecError, parse_spec
from verifiers.verdict import Verdict

MBPP = Path(__file__).parents[4] / "shared/data/mbpp/mbpp.jsonl"


def judge(sandbox: Sandbox, source: str, **spec: Any) -> Verdict:
    parsed = parse_spec({"kind": "code", **spec})
    assert parsed.kind == "code"
    return code.judge(parsed, f"Here it is:\n```python\n{source}\n```\n", sandbox)


DOUBLE = "def f(x):\n    return 2 * x"


def test_asserts_decide(sandbox: Sandbox) -> None:
    tests = ["assert f(2) == 4", "assert f('a') == 'aa'"]
    assert judge(sandbox, DOUBLE, tests=tests).status == "correct"
    verdict = judge(sandbox, "def f(x):\n    return 4", tests=tests)
    assert (verdict.status, verdict.score) == ("wrong", 0.0)
    assert verdict.evidence["test"] == tests[1]


def test_partial_credit_is_the_share_of_tests_passed(sandbox: Sandbox) -> None:
    tests = ["assert f(2) == 4", "assert f(3) == 5", "assert f(4) == 8", "assert f(5) == 11"]
    verdict = judge(sandbox, DOUBLE, tests=tests, partial=True)
    assert (verdict.status, verdict.score) == ("wrong", 0.5)
    assert verdict.evidence["failed"] == 1


@pytest.mark.parametrize(
    ("result", "expect", "status"),
    [
        ("4", 4, "correct"),
        ("4.0", 4, "correct"),
        ("'4'", 4, "wrong"),
        ("True", 1, "wrong"),
        ("1", True, "wrong"),
        ("None", None, "correct"),
        ("None", 0, "wrong"),
        ("(1, 2)", [1, 2], "correct"),
        ("[1, [2, 3]]", [1, [2, 3]], "correct"),
        ("[1, 2, 3]", [1, 2], "wrong"),
        ("{'a': [1]}", {"a": [1]}, "correct"),
        ("{'a': 1, 'b': 2}", {"a": 1}, "wrong"),
        ("0.1 + 0.2", 0.3, "correct"),
        ("0.30001", 0.3, "wrong"),
        ("float('nan')", 0.5, "wrong"),
        ("10**400", 1.5, "wrong"),
        ("10**5000", 10**30, "wrong"),
        ("{1, 2}", [1, 2], "wrong"),
    ],
)
def test_calls_compare_by_value_in_the_terms_of_json(
    sandbox: Sandbox, result: str, expect: Any, status: str
) -> None:
    source = f"def f():\n    return {result}"
    spec = {"calls": [{"args": [], "expect": expect}], "entry_point": "f"}
    assert judge(sandbox, source, **spec).status == status


@pytest.mark.parametrize(
    ("expect", "result", "status"),
    [
        (1000000007, "1000000007.5", "wrong"),
        (1000000007, "1000000007.0", "correct"),
        (3, "2.9999999999", "wrong"),
        (3.0, "2.9999999999", "correct"),
    ],
)
def test_calls_are_exact_where_a_whole_number_is_asked_for(
    sandbox: Sandbox, expect: float, result: str, status: str
) -> None:
    spec = {"calls": [{"args": [], "expect": expect}], "entry_point": "f"}
    assert judge(sandbox, f"def f():\n    return {result}", **spec).status == status


@pytest.mark.parametrize(
    "spec",
    [
        {"tests": ["assert f(2) == 4"]},
        {"tests": ["assert sorted(f([2, 1])) == [1, 2] and not f(x=0)", "assert f(1) in (1, 2)"]},
        {"tests": ["assert math.isclose(f(2), 4)"], "setup": "import math, itertools"},
        {"tests": ["assert abs(f(2) - 0.1) < 1e-6", "assert math.isclose(f(2), 4)"]},
        {"tests": ["assert abs(f(2) - 4) < EPSILON"], "setup": "import math\nEPSILON = 1e-6"},
        {"tests": ["x = 2\nassert f(x) == 4\nx = 3\nassert f(x) == 6"]},
        {"tests": ["def check(c):\n    assert c(2) == 4, 'two'\n    assert c(1) is None"],
         "entry_point": "f"},
        {"tests": ["METADATA = {}\ndef check(f):\n    assert f(2) == 4\ncheck(f)"],
         "entry_point": "f"},
        {"calls": [{"args": [2], "expect": 4}], "entry_point": "f"},
    ],
)  # fmt: skip
def test_plain_data_is_judged_with_one_process(sandbox: Sandbox, spec: dict[str, Any]) -> None:
    parsed = parse_spec({"kind": "code", **spec})
    assert parsed.kind == "code"
    roles = [ending.role for ending in functions.judge(parsed, DOUBLE, sandbox).endings]
    assert roles == ["candidate"]


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ({"tests": ["x = [2]\nassert f(x) == [2, 2]"]}, DOUBLE),
        ({"tests": ["assert f(2) == 4"], "setup": "four = [4]"}, DOUBLE),
        ({"tests": ["assert isclose(f(2), 4)"], "setup": "isclose = 4\nfrom math import isclose"}, DOUBLE),
        ({"tests": ["assert f(2) == abs"], "setup": "abs = 4"}, DOUBLE),
        ({"tests": ["assert ceil(f(2)) == 4"], "setup": "from math import ceil"}, DOUBLE),
        ({"tests": ["assert f([2]) + [1] == [2, 2, 1]"]}, DOUBLE),
        ({"tests": ["assert list(f(2)) == [4]"]}, "def f(x):\n    yield 4"),
        ({"tests": ["assert len(f(20000)) == 20000"]}, "def f(x):\n    return list(range(x))"),
        ({"tests": ["assert f(2) == 4"]}, "def f(x):\n    return fractions.Fraction(4)\nimport fractions"),
    ],
)  # fmt: skip
def test_what_is_more_than_plain_data_is_judged_behind_walls(
    sandbox: Sandbox, spec: dict[str, Any], source: str
) -> None:
    parsed = parse_spec({"kind": "code", **spec})
    assert parsed.kind == "code"
    outcome = functions.judge(parsed, source, sandbox)
    assert sorted(e.role for e in outcome.endings) == ["candidate", "judge"]
    assert outcome.passed == 1, outcome


@pytest.mark.parametrize("kind", ["TimeoutError", "MemoryError", "OSError", "RecursionError"])
@pytest.mark.parametrize("setup", ["", "four = [4]"])
@pytest.mark.parametrize("source", ["def f(x):\n    raise {}('late')", "raise {}('late')"])
def test_an_exception_of_the_codes_own_is_no_time_out(
    sandbox: Sandbox, source: str, setup: str, kind: str
) -> None:
    verdict = judge(sandbox, source.format(kind), tests=["assert f(2) == 4"], setup=setup)
    assert verdict.status == "wrong"
    assert verdict.evidence["reason"] == f"{kind}: late"


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("def f(g):\n    try:\n        return g(0)\n    except ZeroDivisionError:\n        return 4",
         "assert f(lambda x: 1 / x) == 4"),
        ("def f(g, x):\n    return g(x - 1) if x else 7", "h = lambda x: f(h, x)\nassert f(h, 3) == 7"),
        ("def f(g):\n    return sorted([3, 1, 2], key=g)", "assert f(lambda x: -x) == [3, 2, 1]"),
        ("def f(g):\n    g(4)", "seen = []\nf(seen.append)\nassert seen == [4]"),
    ],
)  # fmt: skip
def test_a_function_of_the_tests_can_raise_and_call_back(
    sandbox: Sandbox, source: str, test: str
) -> None:
    verdict = judge(sandbox, source, tests=[test])
    assert verdict.status == "correct", verdict


def test_what_a_prompt_imports_is_not_the_candidates_to_define(sandbox: Sandbox) -> None:
    prompt = "from collections import Counter\n\ndef f(x):\n    pass\n"
    spec = {"tests": ["assert Counter(f('aab')) == Counter('aab')"], "entry_point": "f"}
    assert judge(sandbox, "def f(x):\n    return x", prompt=prompt, **spec).status == "correct"
    forged = "def Counter(x):\n    return 1\ndef f(x):\n    return ''"
    assert judge(sandbox, forged, prompt=prompt, **spec).status == "wrong"


def test_humaneval_checks_are_called_with_the_entry_point(sandbox: Sandbox) -> None:
    test = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n"
    prompt = 'def f(x):\n    """Double x."""\n'
    spec = {"tests": [test], "entry_point": "f", "prompt": prompt}
    assert judge(sandbox, DOUBLE, **spec).status == "correct"
    assert judge(sandbox, "    return 2 * x", **spec).status == "correct"
    assert judge(sandbox, "    return 3 * x", **spec).status == "wrong"


@pytest.mark.parametrize(
    ("source", "test", "setup"),
    [
        ("def f(x):\n    x.sort()", "l = [2, 1]\nf(l)\nassert l == [1, 2]", ""),
        ("def f(g):\n    return g(20) + 1", "assert f(lambda x: x + 1) == 22", ""),
        ("def f(x):\n    yield from range(x)", "assert list(f(3)) == [0, 1, 2]", ""),
        ("def f(x):\n    raise KeyError(x)", "try:\n    f(1)\nexcept KeyError:\n    pass", ""),
        ("from collections import Counter as f", "assert f('aab') == {'a': 2, 'b': 1}", ""),
        (
            "class P:\n    def __init__(self, a):\n        self.a = a\ndef f(p):\n    return p.a",
            "assert f(P(3)) == 3",
            "",
        ),
        (
            "def f(n):\n    return N(n.v + 1)",
            "assert f(N(1)).v == 2",
            "class N:\n    def __init__(self, v):\n        self.v = v",
        ),
        ("def f(x, kind):\n    return kind(x)", "assert f('3', int) == 3", ""),
        ("def f(x):\n    return x", "assert math.isclose(f(2.0), 2.0)", ""),
        ("def sum(a, b):\n    return a - b", "assert sum(3, 2) == 1", ""),
        ("def f():\n    return {(1, 2): {3, 4}}", "assert f() == {(1, 2): {3, 4}}", ""),
        ("def f():\n    return 2 ** 50000", "assert f() == 2 ** 50000", ""),
        ("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\ndef f():\n    return A(1)",
         "assert f().x == 1", ""),
    ],
)  # fmt: skip
def test_what_honest_code_does_crosses_the_protocol(
    sandbox: Sandbox, source: str, test: str, setup: str
) -> None:
    verdict = judge(sandbox, source, tests=[test], setup=setup)
    assert verdict.status == "correct", verdict


def test_a_program_is_judged_by_what_it_prints(sandbox: Sandbox) -> None:
    cases = [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "5\n", "stdout": "10\n"}]
    right = "import sys\nfor line in sys.stdin:\n    print(2 * int(line), end=' \\n\\n')"
    assert judge(sandbox, right, stdio=cases).status == "correct"
    assert judge(sandbox, "print(2 * int(input()))", stdio=cases).status == "correct"
    assert judge(sandbox, "print(2 * int(open(0).read()))", stdio=cases).status == "correct"
    wrong = judge(sandbox, "input()\nprint(4)", stdio=cases, partial=True)
    assert (wrong.status, wrong.score) == ("wrong", 0.5)
    assert "expected '10'" in wrong.evidence["reason"]


def test_a_program_may_ignore_a_long_input(sandbox: Sandbox) -> None:
    case = {"stdin": "x" * 2**20, "stdout": "1"}
    assert judge(sandbox, "print(1)", stdio=[case]).status == "correct"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("", "malformed"),
        ("def f(x:\n  return", "malformed"),
        ("x = 1 / 0", "wrong"),
        ("def g(x):\n    return 2 * x", "wrong"),
        ("f = 4", "wrong"),
    ],
)
def test_code_that_does_not_load_says_why(sandbox: Sandbox, source: str, status: str) -> None:
    verdict = judge(sandbox, source, tests=["assert f(2) == 4"])
    assert verdict.status == status
    assert verdict.evidence["reason"]


def test_endless_code_is_a_timeout_and_keeps_what_it_earned(sandbox: Sandbox) -> None:
    source = "def f(x):\n    while x == 3: pass\n    return 2 * x"
    tests = ["assert f(2) == 4", "assert f(3) == 6"]
    verdict = judge(sandbox, source, tests=tests, timeout_s=0.5, partial=True)
    assert (verdict.status, verdict.score) == ("timeout", 0.5)
    assert verdict.evidence["limit"] == "wall"


@pytest.mark.parametrize(
    ("tests", "share"),
    [
        (["assert len(f(1)) == f(2)", "assert f(3) == 6"], 0.5),
        (["assert f(0) == 1 or f(7) == 14", "assert f(3) == 6"], 1.0),
        (["assert f(f(2)) == 8", "assert f(3) == 7"], 0.5),
        (["assert f(9) == 1", "assert f(x=3) == 6", "assert f(3) == 6", "assert f(4) == 0"], 0.5),
    ],
)
def test_calls_sent_ahead_change_no_verdict(
    sandbox: Sandbox, tests: list[str], share: float
) -> None:
    assert judge(sandbox, DOUBLE, tests=tests, partial=True).score == share


def test_calls_sent_ahead_wait_for_nobody(sandbox: Sandbox) -> None:
    source = "def f(x):\n    return 'y' * 2**20 if len(x) > 9 else 0"
    calls = [{"args": ["x" * 9_000], "expect": "y" * 2**20}] * 9
    spec = {"calls": calls, "entry_point": "f"}
    assert judge(sandbox, source, **spec, timeout_s=20).status == "correct"


def test_numpy_and_pandas_work_behind_the_walls(sandbox: Sandbox) -> None:
    source = """
import numpy as np
import pandas as pd
def f(n):
    frame = pd.DataFrame({"a": np.arange(n), "b": np.arange(n) % 2})
    a = np.linalg.inv(np.eye(3) * 2) @ np.ones(3)
    return frame.groupby("b")["a"].sum().to_numpy(), a
"""
    test = """
import numpy as np
sums, a = f(10)
assert np.array_equal(sums, [20, 25]) and np.allclose(a, 0.5)
"""
    verdict = judge(sandbox, source, tests=[test], timeout_s=30)
    assert verdict.status == "correct", verdict


@pytest.mark.parametrize(
    ("spec", "clause"),
    [
        ({}, "exactly one of"),
        ({"tests": ["assert 1"], "stdio": [{"stdout": "1"}]}, "exactly one of"),
        ({"tests": ["assert f("]}, "tests: no Python"),
        ({"calls": [{"expect": 1}]}, "entry_point"),
        ({"tests": ["assert 1"], "entry_point": "a b"}, "entry_point"),
        ({"tests": ["assert 1"], "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_spec_that_cannot_be_used_is_refused(spec: dict[str, Any], clause: str) -> None:
    with pytest.raises(SpecError, match=clause):
        parse_spec({"kind": "code", **spec})


@pytest.mark.skipif(not MBPP.exists(), reason=f"{MBPP} is not here")
@pytest.mark.timeout(600)
def test_mbpp_references_are_correct_and_stubs_never(sandbox: Sandbox) -> None:
    rows = [json.loads(line) for line in MBPP.read_text().splitlines()]
    rejected: list[Any] = []
    accepted: list[Any] = []
    for row in rows:
        spec = {"tests": row["test_list"], "setup": row["test_setup_code"], "timeout_s": 60}
        if judge(sandbox, row["code"], **spec).status != "correct":
            rejected.append(row["task_id"])
        names = [line.split("(")[0][4:] for line in row["code"].splitlines() if line[:4] == "def "]
        stub = "\n".join(f"def {name}(*args): return None" for name in names)
        if judge(sandbox, stub, **spec).status == "correct":
            accepted.append(row["task_id"])
    assert rejected == []
    assert accepted == []
