"""Every benchmark starts as its docstring says."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def test_there_are_benchmarks() -> None:
    assert {"overhead.py", "verifiers.py"} <= {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_benchmark_answers_help(script: Path) -> None:
    command = [sys.executable, str(script), "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage:")
