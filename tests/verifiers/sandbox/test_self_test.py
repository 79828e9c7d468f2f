"""A sandbox with a hole does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from verifiers import code
from verifiers.pool import WorkerPool
from verifiers.sandbox.policy import MECHANISMS, Mechanism
from verifiers.sandbox.supervisor import Sandbox, SandboxError
from verifiers.spec import parse_spec

ROOT = Path(__file__).parents[3]
RIGHT = "```python\ndef f(x): return 2 * x\n```"
SPEC = parse_spec({"kind": "code", "tests": ["assert f(2) == 4"]})


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_without_one_mechanism_the_start_fails_and_names_it(mechanism: Mechanism) -> None:
    walls: list[Mechanism] = [name for name in MECHANISMS if name != mechanism]
    with pytest.raises(SandboxError, match=rf"{mechanism} is not in force"):
        Sandbox(mechanisms=walls)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_canaries_themselves_find_a_missing_mechanism(mechanism: Mechanism) -> None:
    if mechanism == "capabilities" and os.getuid() != 0:
        pytest.skip("there is no capability to lose")
    walls: list[Mechanism] = [name for name in MECHANISMS if name != mechanism]
    # Without privileges the kernel itself takes no filter from a process that could gain some.
    says = "not be raised" if mechanism == "no_new_privs" else rf"{mechanism}: could"
    with pytest.raises(SandboxError, match=says):
        Sandbox(mechanisms=walls)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize(("refused", "says"), [("444:38", "no Landlock"), ("317:22", "Invalid")])
def test_a_kernel_without_a_wall_is_refused(refused: str, says: str) -> None:
    start = "from verifiers.sandbox.supervisor import Sandbox; Sandbox()"
    command = [sys.executable, "-m", "tests.verifiers.sandbox.emulated", refused]
    run = subprocess.run(
        [*command, sys.executable, "-c", start],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "SandboxError" in run.stderr
    assert says in run.stderr


def test_an_unsafe_sandbox_taints_every_verdict() -> None:
    with Sandbox(unsafe=True) as sandbox:
        assert SPEC.kind == "code"
        for completion, status in ((RIGHT, "correct"), (RIGHT.replace("2", "3"), "wrong")):
            verdict = code.judge(SPEC, completion, sandbox)
            assert verdict.status == status
            assert "tainted" in verdict.evidence


def test_a_walled_verdict_is_not_tainted(sandbox: Sandbox) -> None:
    assert SPEC.kind == "code"
    assert "tainted" not in code.judge(SPEC, RIGHT, sandbox).evidence


def test_an_unsafe_pool_says_so() -> None:
    with WorkerPool(1, unsafe=True) as pool:
        assert "tainted" in pool.judge(SPEC, RIGHT).evidence
