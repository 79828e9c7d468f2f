"""Make the recording that `strop up --demo` shows: the quickstart, and the same job by GRPO.

    python examples/quickstart/record.py [--home demo-run] [--to services/recorded/quickstart.zip]

Two runs of the same tasks, so that the page has something to compare.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import tasks
import yaml
from run import HERE, STROP, followed, say, service

RECORDED = HERE.parents[1] / "services" / "recorded" / "quickstart.zip"


def by_grpo(home: Path) -> Path:
    """The quickstart's job without a teacher, as a file in the home folder."""
    job = yaml.safe_load((HERE / "job.yaml").read_text(encoding="utf-8"))
    job["name"] = "quickstart-grpo"
    job["algorithm"] = {"kind": "grpo"}
    job["tasks"] = {name: str(HERE / path) for name, path in job["tasks"].items()}
    del job["privileged"], job["tiers"]["teacher"]
    path = home / "grpo.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def finished(job: Path) -> str:
    """Submit a job and follow it to its end; its id. Exits when it does not succeed."""
    job_id, status = followed(say(STROP, "submit", job, "--follow"))
    if status:
        sys.exit(status)
    return job_id


def main() -> None:
    """Run both and write the recording."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path("demo-run"), help="data folder")
    parser.add_argument("--to", type=Path, default=RECORDED, help="the recording")
    arguments = parser.parse_args()
    home = arguments.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["STROP_HOME"] = str(home)
    arguments.to.parent.mkdir(parents=True, exist_ok=True)
    tasks.write(HERE / "tasks")
    with service():
        jobs = [finished(HERE / "job.yaml"), finished(by_grpo(home))]
        subprocess.run(say(STROP, "export", *jobs, "--to", arguments.to), check=True)


if __name__ == "__main__":
    main()
