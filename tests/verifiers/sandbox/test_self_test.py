"""A sandbox with a hole does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from verifiers import code
from verifiers.pool import WorkerPool
from verifiers.sandbox import namespaces
from verifiers.sandbox.policy import MECHANISMS, Mechanism, Profile
from verifiers.sandbox.supervisor import Sandbox, SandboxError
from verifiers.spec import parse_spec

ROOT = Path(__file__).parents[3]
RIGHT = "```python\ndef f(x): return 2 * x\n```"
SPEC = parse_spec({"kind": "code", "tests": ["assert f(2) == 4"]})


CASES = [(profile, name) for profile, names in MECHANISMS.items() for name in names]


def without(profile: Profile, mechanism: Mechanism) -> list[Mechanism]:
    if profile == "namespaces" and not namespaces.available():
        pytest.skip("this user makes no namespaces here")
    if mechanism == "capabilities" and profile == "landlock" and os.getuid() != 0:
        pytest.skip("there is no capability to lose")
    return [name for name in MECHANISMS[profile] if name != mechanism]


@pytest.mark.parametrize(("profile", "mechanism"), CASES)
def test_without_one_mechanism_the_start_fails_and_names_it(
    profile: Profile, mechanism: Mechanism
) -> None:
    with pytest.raises(SandboxError, match=rf"{mechanism} is not in force"):
        Sandbox(profile=profile, mechanisms=without(profile, mechanism))


@pytest.mark.parametrize(("profile", "mechanism"), CASES)
def test_the_canaries_themselves_find_a_missing_mechanism(
    profile: Profile, mechanism: Mechanism
) -> None:
    # Without privileges the kernel itself takes no filter from a process that could gain some.
    wanted = {"no_new_privs": "not be raised", "namespaces": "could list /etc"}
    says = wanted.get(mechanism, rf"{mechanism}: could")
    with pytest.raises(SandboxError, match=says):
        Sandbox(profile=profile, mechanisms=without(profile, mechanism))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize(
    ("refused", "says"),
    [("444:38,272:1", "no Landlock"), ("317:22", "Invalid"), ("444:38,165:1", "no Landlock")],
)
def test_a_kernel_without_a_wall_is_refused(refused: str, says: str) -> None:
    run = _start_where("Sandbox()", refused)
    assert run.returncode == 1
    assert "SandboxError" in run.stderr
    assert says in run.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_a_kernel_without_landlock_gets_a_root_folder_of_its_own() -> None:
    if not namespaces.available():
        pytest.skip("this user makes no namespaces here")
    run = _start_where("print(walls.profile()); Sandbox().close()", "444:38")
    assert (run.returncode, run.stdout) == (0, "namespaces\n"), run.stderr


def _start_where(start: str, refused: str) -> subprocess.CompletedProcess[str]:
    imports = (
        "from verifiers.sandbox import walls; from verifiers.sandbox.supervisor import Sandbox"
    )
    command = [sys.executable, "-m", "tests.verifiers.sandbox.emulated", refused]
    return subprocess.run(
        [*command, sys.executable, "-c", f"{imports}; {start}"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


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
