"""Run a command as a user who owns nothing: what a service is that does not run as root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65534


def as_nobody(command: list[str], folder: Path) -> list[str]:
    """The command in a mount namespace where the interpreter's folder can be reached by everybody.

    `folder` becomes its own. Skips the test where that cannot be had.
    """
    if os.getuid() != 0:
        pytest.skip("we are an ordinary user already")
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("util-linux is not installed")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no capability to make a mount namespace")
    os.chown(folder, NOBODY, NOBODY)
    lines = ["set -e"]
    for place in dict.fromkeys((sys.base_prefix, str(ROOT), os.path.realpath(sys.prefix))):
        if hidden := _hidden(Path(place)):
            aside, quoted = shlex.quote(str(folder.parent / "aside")), shlex.quote(place)
            lines += [f"mkdir -p {aside}", f"mount --bind {quoted} {aside}"]
            lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(hidden))}"]
            lines += [f"mkdir -p {quoted}", f"mount --bind {aside} {quoted}"]
    user = f"--reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps=-all"
    lines += [f"exec setpriv {user} {shlex.join(command)}"]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


def _hidden(place: Path) -> Path | None:
    """The first folder on the way that others may not enter."""
    for parent in reversed((place, *place.parents)):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None
