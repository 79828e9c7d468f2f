"""A private local Ray for tests: token auth, its own folder, nothing left behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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
