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
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200 << 20,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()
            _sweep_openmp()


def _sweep_openmp() -> None:
    """Remove what Intel OpenMP left in shared memory of processes that are gone."""
    for segment in Path("/dev/shm").glob("__KMP_REGISTERED_LIB_*"):
        if not psutil.pid_exists(int(segment.name.split("_")[5])):
            segment.unlink(missing_ok=True)
