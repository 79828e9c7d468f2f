"""MLflow: one run a job, found again by its tag, in the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from mlflow import MlflowClient, get_tracking_uri  # pyright: ignore[reportMissingImports]
from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

from services.trackers.sink import Point, Run, flat
from services.trackers.spec import MlflowTracker

T = TypeVar("T")

JOB_TAG = "strop.job_id"
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
# What a server takes in one request, and of one parameter.
_METRICS, _PARAMS, _VALUE = 1000, 100, 6000


class MlflowSink:
    """A run that carries the job's id."""

    def __init__(self, tracker: MlflowTracker, run: Run) -> None:
        """Open or reopen the run."""
        self._client: Any = MlflowClient()
        experiment = self._experiment(tracker.experiment)
        found = self._client.search_runs(
            [experiment], f"tags.`{JOB_TAG}` = '{run.id}'", max_results=1
        )
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            tags = {**tracker.tags, JOB_TAG: run.id}
            made = self._client.create_run(experiment, run_name=run.name, tags=tags)
            self._id = made.info.run_id
            params = [Param(key, str(value)[:_VALUE]) for key, value in flat(run.config).items()]
            for part in _parts(params, _PARAMS):
                self._client.log_batch(self._id, params=part)
        server = str(get_tracking_uri())
        at = f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{self._id}"
        self.url = at if server.startswith("http") else None

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        return self._client.create_experiment(name) if known is None else known.experiment_id

    def log(self, points: Sequence[Point]) -> None:
        """Store every number; one that is told again, at its own time and step, is the same row."""
        metrics = [
            Metric(name, value, int(point.at * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for part in _parts(metrics, _METRICS):
            self._client.log_batch(self._id, metrics=part)

    def close(self, outcome: str) -> None:
        """Say how the run ended, if it did."""
        if status := _STATUS.get(outcome):
            self._client.set_terminated(self._id, status)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
