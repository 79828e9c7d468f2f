"""A dispatcher in a process of its own whose jobs count to forty: what tests stop and kill.

`python -m tests.services.dispatching_process STORE_URL LOG` writes to LOG how each claim of a job
ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from services.dispatcher import Dispatcher
from services.fit import Node
from services.held_job import Beat, Patience
from services.jobs import Job
from services.queue_order import Cluster
from services.store import Store

STEPS = 40


async def roomy() -> Cluster:
    """A cluster in which every job has its place."""
    return Cluster([Node(64, 8, {})], [Node(64, 8, {})])


async def main(url: str, log: Path) -> None:
    store = await Store.open(url)

    async def launch(job: Job, beat: Beat) -> None:
        with log.open("a") as lines:
            ending = "lost"
            try:
                done = int((job.progress or {"step": 0})["step"])
                for step in range(done + 1, STEPS + 1):
                    beat(step)
                    data = {"kind": "step", "step": step, "token": job.token}
                    await store.append_event(
                        job.id, message="step", data=data, token=job.token, key=f"step:{step}"
                    )
                    await asyncio.sleep(0.1)
                await store.transition(job.id, "succeeded", token=job.token)
                ending = "succeeded"
            finally:
                lines.write(f"{job.id} {job.token} {ending}\n")

    patience = Patience(renew_s=0.2, lease_s=1.5, retry_s=0.1)
    await Dispatcher(store, launch, roomy, poll_seconds=0.1, patience=patience).run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
