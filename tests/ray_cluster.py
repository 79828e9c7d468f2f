"""A private local Ray for tests: token auth, its own folder, nothing left behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """Ray with this many logical CPUs, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="strop-ray-") as folder:
        _start(cpus, folder)
        try:
            yield
        finally:
            ray.shutdown()
            _sweep_openmp()


def _start(cpus: int, folder: str, attempts: int = 4) -> None:
    """Ray waits half a minute for its own processes, which on a busy machine may take longer."""
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200 << 20,
            _temp_dir=folder,
        )
    except Exception as error:
        ray.shutdown()
        if attempts == 1 or "timed out during startup" not in str(error):
            raise
        _start(cpus, folder, attempts - 1)


def _sweep_openmp() -> None:
    """Remove what Intel OpenMP left in shared memory of processes that are gone."""
    for segment in Path("/dev/shm").glob("__KMP_REGISTERED_LIB_*"):
        if not psutil.pid_exists(int(segment.name.split("_")[5])):
            segment.unlink(missing_ok=True)
