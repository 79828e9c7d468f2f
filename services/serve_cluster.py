"""Ray Serve as the serving loop sees it: what is loaded, what is free, load, unload.

Blocking calls, for a thread. Serve is started with the first model and shut down after the
last; applications of others on the same cluster are left alone.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import serve
from ray._private.state import available_resources_per_node
from ray.serve.api import RunTarget

from services.model_server import ModelOptions, application
from services.serving_plan import Loaded, Room, Status

_PREFIX = "strop-"
_STATUS: Mapping[str, Status] = {
    "NOT_STARTED": "loading",
    "DEPLOYING": "loading",
    "RUNNING": "ready",
    "UNHEALTHY": "restarting",
    "DEPLOY_FAILED": "failed",
    "DELETING": "leaving",
}
_MESSAGE_CHARACTERS = 500


class ServeCluster:
    """Serve on the cluster this process is connected to; its proxy listens on `host`."""

    def __init__(self, host: str, port: int) -> None:
        """`port` 0 takes a free one."""
        self._host, self._port = host, port

    def loaded(self) -> dict[str, Loaded]:
        """Our models, by key."""
        return {
            name.removeprefix(_PREFIX): Loaded(
                _STATUS[app.status.value], app.last_deployed_time_s, _reason(app)
            )
            for name, app in serve.status().applications.items()
            if name.startswith(_PREFIX)
        }

    def nodes(self) -> list[Room]:
        """What every living node has."""
        free = available_resources_per_node()
        return [
            Room(
                cpus=free.get(node["NodeID"], {}).get("CPU", 0.0),
                gpus=free.get(node["NodeID"], {}).get("GPU", 0.0),
                all_cpus=node["Resources"].get("CPU", 0.0),
                all_gpus=node["Resources"].get("GPU", 0.0),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]

    def load(self, key: str, options: ModelOptions, token: str) -> None:
        """Begin to load a model; `loaded` says how it goes."""
        self._start()
        target = RunTarget(
            application(options, token), name=_PREFIX + key, route_prefix=f"/strop/{key}"
        )
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def unload(self, key: str) -> None:
        """Begin to give back what a model takes."""
        serve.delete(_PREFIX + key, _blocking=False)

    def url(self, key: str) -> str:
        """Where a loaded model answers the API."""
        options = _client().http_config
        host = _head_address() if options.host in ("0.0.0.0", "::") else options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{options.port}/strop/{key}"

    def rest(self) -> None:
        """Shut Serve down where nothing is served: its controller polls all the time."""
        if not serve.status().applications:
            serve.shutdown()

    def _start(self) -> None:
        if _client(must_run=False) is None:
            port = self._port or _free_port(self._host)
            serve.start(proxy_location="HeadOnly", http_options={"host": self._host, "port": port})


def _client(*, must_run: bool = True) -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client(raise_if_no_controller_running=must_run)


def _head_address() -> str:
    nodes: Sequence[Any] = ray.nodes()
    return next(
        node["NodeManagerAddress"]
        for node in nodes
        if node["Alive"] and "node:__internal_head__" in node["Resources"]
    )


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        return probe.getsockname()[1]


def _reason(app: Any) -> str:
    """What Serve says of an application that does not run: the line that names the error."""
    said = [app.message, *(deployment.message for deployment in app.deployments.values())]
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
    return lines[-1][:_MESSAGE_CHARACTERS] if lines else ""
