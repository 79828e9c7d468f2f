"""This process's one connection to the Ray cluster, made when it is first needed.

A dispatcher without a job or a served model never pays for Ray.
"""

from __future__ import annotations

import logging
import threading

_connecting = threading.Lock()


def connect(address: str | None) -> None:
    """Connect to the cluster at `address`, unless this process is connected already.

    Call it outside of the main thread, where Ray would take over our SIGTERM.
    """
    import ray

    with _connecting:
        if not ray.is_initialized():
            ray.init(address=address or "auto", namespace="strop", logging_level=logging.WARNING)
