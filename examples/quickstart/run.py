"""The quickstart, whole: make tasks, start the service, submit the job, follow it, report.

    python examples/quickstart/run.py [--home demo-run]

Types for you what the README tells you to type, and stops what it started. Everything it
makes lies in the home folder and in `tasks/` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import tasks

HERE = Path(__file__).resolve().parent
STROP = Path(sys.executable).with_name("strop")
READY_SECONDS = 240
STOP_SECONDS = 90


def say(*command: str | Path) -> list[str]:
    """Show a command as one would type it."""
    words = [os.path.relpath(word) if Path(word).is_absolute() else str(word) for word in command]
    print(f"\n$ {shlex.join(words)}", flush=True)
    return [str(word) for word in command]


@contextlib.contextmanager
def service() -> Iterator[None]:
    """`strop up` for the time of the block, on a free port."""
    process = subprocess.Popen(
        [*say(STROP, "up"), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "STROP_PORT": "0"},
        start_new_session=True,  # Ctrl-C is ours to handle: it stops the service in order
    )
    assert process.stdout is not None
    ready = threading.Timer(READY_SECONDS, process.terminate)
    ready.start()
    line = process.stdout.readline()
    ready.cancel()
    try:
        if not line:
            sys.exit(process.wait(STOP_SECONDS) or 1)
        print(f"strop is up at {json.loads(line)['url']}", flush=True)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def followed(submit: Sequence[str]) -> tuple[str, int]:
    """What `submit --follow` does, in its two parts: the job's id, and its exit status."""
    command = [word for word in submit if word != "--follow"]
    answer = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.returncode)
    job = json.loads(answer.stdout)["id"]
    print(job, flush=True)
    return job, subprocess.run([STROP, "logs", job, "--follow"], check=False).returncode


def main() -> None:
    """Run the quickstart; the exit status is the job's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("demo-run"), help="data folder")
    home = parser.parse_args().home.resolve()
    os.environ["STROP_HOME"] = str(home)
    started = time.monotonic()

    say("python", HERE / "tasks.py")
    for path in tasks.write(HERE / "tasks"):
        print(os.path.relpath(path))
    with service():
        command = say(STROP, "submit", HERE / "job.yaml", "--follow")
        job, status = followed(command)
        page = home / "report.html"
        subprocess.run(say(STROP, "report", job, "--html", page), check=True)
        shown = subprocess.run(
            [STROP, "show", job, "--json"], stdout=subprocess.PIPE, text=True, check=True
        )
        model = json.loads(shown.stdout)["result"]["model"]
    if model:
        print("\nTalk to the trained model:")
        say(
            STROP,
            "chat",
            Path(model),
            "Extract name, age and city as JSON: Ivy is 57 and lives in Rome.",
        )
    print(f"\nThe whole took {time.monotonic() - started:.0f} s.")
    sys.exit(status)


if __name__ == "__main__":
    main()
