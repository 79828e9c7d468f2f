"""Makes the quickstart's task files: small arithmetic and JSON from one sentence.

    python examples/quickstart/tasks.py [folder] [--seed 0] [--train 240] [--holdout 240]

writes `train.jsonl` and `holdout.jsonl`. Three families, evenly mixed: one-digit products
and one-step word sums (verifier `math`), flat JSON objects (verifier `schema`). A family's
facts are parted before they are worded, so no prompt, and no pair of factors, of the
held-out tasks is ever trained on. One seed gives the same bytes. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

Row = dict[str, Any]

NAMES = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Frank",
    "Grace",
    "Henry",
    "Ivy",
    "Jack",
    "Kate",
    "Liam",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Victor",
    "Laura",
    "Peter",
    "Sarah",
    "Tom",
    "Lucy",
    "George",
    "Helen",
    "Martin",
    "Julia",
    "Adam",
]
CITIES = [
    "Paris",
    "London",
    "Rome",
    "Madrid",
    "Berlin",
    "Oslo",
    "Vienna",
    "Lisbon",
    "Dublin",
    "Prague",
    "Athens",
    "Tokyo",
    "Cairo",
    "Delhi",
    "Boston",
    "Chicago",
    "Milan",
    "Moscow",
    "Toronto",
    "Sydney",
]
THINGS = [
    "apples",
    "books",
    "coins",
    "pens",
    "cards",
    "stamps",
    "eggs",
    "cups",
    "balls",
    "oranges",
    "pencils",
    "flowers",
]

PRODUCTS = (  # prompt and trace
    ("What is {a} * {b}? Reply in one short sentence.", "{a} * {b} = {c}."),
    ("What is {a} × {b}? Reply in one short sentence.", "{a} × {b} = {c}."),
    ("What is {a} times {b}? Reply in one short sentence.", "{a} times {b} equals {c}."),
)
SUM = (
    "{name} has {a} {things} and buys {b} more. "
    "How many {things} does {name} have now? Reply in one sentence."
)
OBJECT = "Extract name, age and city as JSON: {name} is {age} years old and lives in {city}."
OBJECT_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def product_rows(facts: Sequence[tuple[int, int]]) -> list[Row]:
    """Every wording of every product, both ways round."""
    rows: list[Row] = []
    for (prompt, trace), (low, high) in product(PRODUCTS, facts):
        for a, b in {(low, high): None, (high, low): None}:
            rows.append(
                _row(
                    prompt.format(a=a, b=b),
                    {"kind": "math", "answer": str(a * b)},
                    answer=str(a * b),
                    trace=trace.format(a=a, b=b, c=a * b),
                )
            )
    return rows


def sum_rows(facts: Sequence[tuple[str, str, int, int]]) -> list[Row]:
    """One word problem a fact."""
    return [
        _row(
            SUM.format(name=name, things=things, a=a, b=b),
            {"kind": "math", "answer": str(a + b)},
            answer=str(a + b),
            trace=f"{name} has {a} + {b} = {a + b} {things} now.",
        )
        for name, things, a, b in facts
    ]


def object_rows(facts: Sequence[tuple[str, str, int]]) -> list[Row]:
    """One sentence to be turned into JSON a fact."""
    rows: list[Row] = []
    for name, city, age in facts:
        expected = {"name": name, "age": age, "city": city}
        rows.append(
            _row(
                OBJECT.format(name=name, age=age, city=city),
                {"kind": "schema", "schema": OBJECT_SCHEMA, "expected": expected},
                answer=json.dumps(expected),
                trace=json.dumps(expected, indent=2),
            )
        )
    return rows


def _row(prompt: str, verifier: Row, *, answer: str, trace: str) -> Row:
    return {
        "messages": [{"role": "user", "content": prompt}],
        "verifier": verifier,
        "privileged": {"answer": answer, "trace": trace},
    }


def make(seed: int, train: int, holdout: int) -> tuple[list[Row], list[Row]]:
    """Training and held-out rows, a third of each family, shuffled, with ids.

    Raises ValueError when more tasks are asked for than a family has.
    """
    rng = random.Random(seed)
    one_digit = range(2, 10)
    families: list[tuple[str, Sequence[Any], Callable[[Any], list[Row]]]] = [
        ("product", list(combinations_with_replacement(one_digit, 2)), product_rows),
        ("sum", list(product(NAMES, THINGS, one_digit, one_digit)), sum_rows),
        ("object", list(product(NAMES, CITIES, range(18, 71))), object_rows),
    ]
    splits: tuple[list[Row], list[Row]] = ([], [])
    for index, (family, facts, worded) in enumerate(families):
        shuffled = rng.sample(facts, len(facts))
        border = len(facts) // 2
        for name, rows, kept, total in (
            ("train", splits[0], shuffled[:border], train),
            ("holdout", splits[1], shuffled[border:], holdout),
        ):
            share = total // len(families) + (index < total % len(families))
            candidates = worded(kept)
            if share > len(candidates):
                raise ValueError(f"{share} tasks asked for, but {family} has {len(candidates)}")
            chosen = rng.sample(candidates, share)
            rows += [
                {"id": f"{name}-{family}-{n:03d}", **row} for n, row in enumerate(chosen, start=1)
            ]
    for rows in splits:
        rng.shuffle(rows)
    return splits


def write(folder: Path, seed: int = 0, train: int = 240, holdout: int = 240) -> tuple[Path, Path]:
    """Write both files and answer their paths; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "train.jsonl", folder / "holdout.jsonl")
    for path, rows in zip(paths, make(seed, train, holdout), strict=True):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode("utf-8"))
    return paths


def main() -> None:
    """Write the files and say where they are."""
    parser = argparse.ArgumentParser(description="Make the quickstart's task files.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).resolve().parent / "tasks"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=240)
    parser.add_argument("--holdout", type=int, default=240)
    arguments = parser.parse_args()
    try:
        paths = write(arguments.folder, arguments.seed, arguments.train, arguments.holdout)
    except ValueError as error:
        parser.error(str(error))
    for path in paths:
        print(path)


if __name__ == "__main__":
    main()
