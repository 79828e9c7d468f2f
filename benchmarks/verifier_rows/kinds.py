"""Cases of every kind of verifier. Completions differ from verdict to verdict, so that no
cache of theirs helps; gold answers repeat, as they do within a group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any

from benchmarks.verifier_rows.problems import PROBLEMS, solutions

Case = tuple[dict[str, Any], str, bool]
"""A spec as plain data, a completion, and whether it is right."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "status", "customer", "items"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^INV-[0-9]{4,}$"},
        "status": {"enum": ["open", "paid", "late"]},
        "customer": {
            "type": "object",
            "required": ["name", "email"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "email": {"type": "string", "format": "email"},
                "age": {"type": "integer", "minimum": 0},
            },
        },
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["sku", "quantity", "price"],
                "properties": {
                    "sku": {"type": "string"},
                    "quantity": {"type": "integer", "minimum": 1},
                    "price": {"type": "number", "exclusiveMinimum": 0},
                },
            },
        },
    },
}
C = '#include <stdio.h>\nint main(){{int x;scanf("%d",&x);printf("%d\\n",{}*x);}} // {}'


def math_cases() -> Iterator[Case]:
    """Fractions, right and wrong, in words and in boxes."""
    for n in count():
        value = (n % 49 + 1) * (n + 1) + (n % 3 == 0)
        completion = f"Some words. The answer is \\boxed{{\\frac{{{value}}}{{{7 * (n + 1)}}}}}."
        yield {"kind": "math", "answer": f"\\frac{{{n % 49 + 1}}}{{7}}"}, completion, n % 3 != 0


def schema_cases() -> Iterator[Case]:
    """An invoice of three items; in every third, one quantity is wrong."""
    spec = {"kind": "schema", "schema": SCHEMA}
    for n in count():
        items = [
            {"sku": f"s{k}", "quantity": k if n % 3 == 0 else 1, "price": 1.5} for k in range(3)
        ]
        customer = {"name": f"n{n}", "email": "a@b.org", "age": 30}
        data = {"id": f"INV-{1000 + n}", "status": "paid", "customer": customer, "items": items}
        yield spec, f"```json\n{json.dumps(data)}\n```", n % 3 != 0


def choice_cases() -> Iterator[Case]:
    """A letter in a sentence."""
    spec = {"kind": "choice", "answer": "B", "choices": ["red", "green", "blue", "none"]}
    for n in count():
        yield spec, f"Thought {n}. The answer is ({'ABCD'[n % 4]}).", n % 4 == 1


def text_cases() -> Iterator[Case]:
    """A number within a tolerance."""
    spec = {"kind": "text", "number": 3.14, "tolerance": 0.01}
    for n in count():
        yield spec, "3.1412" if n % 2 else f"{4 + n}.5", n % 2 == 1


def python_cases() -> Iterator[Case]:
    """A grading function that compares words."""
    source = (
        "def grade(sample, item):\n"
        "    words = sample['output_text'].lower().split()\n"
        "    return sum(word in words for word in item['words']) / len(item['words'])\n"
    )
    spec = {"kind": "python", "source": source, "item": {"words": ["red", "green"]}}
    for n in count():
        yield spec, f"{n} is red and {'green' if n % 2 else 'blue'}", n % 2 == 1


def code_cases(form: str) -> Iterator[Case]:
    """Small problems as asserts, as calls, as HumanEval's check, and as tests with a setup of
    their own, which a judge behind walls runs."""
    specs: dict[str, dict[str, Any]] = {}
    for problem in PROBLEMS:
        spec: dict[str, Any] = {"kind": "code", "entry_point": problem.name}
        match form:
            case "asserts":
                spec |= {"tests": problem.asserts}
            case "calls":
                spec["calls"] = [{"args": a, "expect": e} for a, e in problem.cases]
            case "check":
                spec |= {"tests": [problem.check]}
            case _:
                spec |= {"tests": problem.asserts, "setup": "def own():\n    return 1"}
        specs[problem.name] = spec
    for n, (problem, code) in enumerate(solutions()):
        yield specs[problem.name], f"```python\n{code}```", n % 3 != 0


def mbpp_cases(problems: Path) -> Iterator[Case]:
    """MBPP's own tests on its reference solutions, whose CPU counts too."""
    rows = [json.loads(line) for line in problems.read_text().splitlines()]
    for row in cycle(rows):
        spec = {"kind": "code", "tests": row["test_list"], "setup": row["test_setup_code"]}
        yield spec | {"timeout_s": 60}, f"```python\n{row['code']}\n```", True


def stdio_cases() -> Iterator[Case]:
    """A program that doubles a number, one case."""
    spec = {"kind": "code", "stdio": [{"stdin": "2\n", "stdout": "4\n"}]}
    for n in count():
        yield spec, f"```python\n# {n}\nprint({2 if n % 3 else 3} * int(input()))\n```", n % 3 != 0


def c_cases() -> Iterator[Case]:
    """The same in C with two cases: compiled once, run twice."""
    stdio = [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "5\n", "stdout": "10\n"}]
    spec = {"kind": "code", "language": "c", "stdio": stdio}
    for n in count():
        yield spec, f"```c\n{C.format(2 if n % 3 else 3, n)}\n```", n % 3 != 0


def mixed_cases(*others: Iterator[Case]) -> Iterator[Case]:
    """All kinds in turn, with `others` among them, but the compiled one, which costs as much as
    twenty others."""
    sources = [
        *(math_cases(), schema_cases(), choice_cases(), text_cases(), python_cases()),
        *(code_cases("asserts"), code_cases("calls"), code_cases("setup"), stdio_cases()),
        *others,
    ]
    while True:
        for source in sources:
            yield next(source)
