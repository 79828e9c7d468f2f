"""What a job may say about its trackers, and what each one needs where the controllers run.

Neither an address nor a key: those are the operator's, in the environment of whoever runs the
controllers, under the names that the trackers' own libraries read. So no job file holds a
secret, and no job sends the operator's keys to an address of its own choice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trainer.spec import Spec


class NamedRun(Spec):
    """A tracker that calls the job's run by a name."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Name of the run; the job's name when absent.",
    )


class WandbTracker(NamedRun):
    """Weights & Biases: WANDB_API_KEY, or WANDB_MODE=offline, in the dispatchers' environment."""

    kind: Literal["wandb"]
    project: str = Field(
        default="strop", min_length=1, max_length=128, description="Project of the run."
    )
    entity: str | None = Field(
        default=None,
        max_length=128,
        description="User or team that owns the project; that of the key when absent.",
    )
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(), max_length=16, description="Tags of the run."
    )


class MlflowTracker(NamedRun):
    """MLflow: MLFLOW_TRACKING_URI in the dispatchers' environment."""

    kind: Literal["mlflow"]
    experiment: str = Field(
        default="strop", min_length=1, max_length=128, description="Experiment of the run."
    )
    tags: dict[str, Annotated[str, Field(max_length=500)]] = Field(
        default_factory=dict[str, str], max_length=16, description="Tags of the run."
    )


class TensorboardTracker(Spec):
    """TensorBoard: event files in the job's folder, for `tensorboard --logdir $STROP_HOME/jobs`."""

    kind: Literal["tensorboard"]


class TrackioTracker(NamedRun):
    """Trackio: a database in `$STROP_HOME/trackio`, or where TRACKIO_DIR says."""

    kind: Literal["trackio"]
    project: str = Field(
        default="strop", min_length=1, max_length=128, description="Project of the run."
    )


Tracker = Annotated[
    WandbTracker | MlflowTracker | TensorboardTracker | TrackioTracker,
    Field(discriminator="kind"),
]

PACKAGES: Mapping[str, tuple[str, str]] = {
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "tensorboard": ("tensorboardX", "tensorboardX"),
    "trackio": ("trackio", "trackio"),
}
"""Kind of tracker -> (module, the package that brings it)."""


def problems(
    trackers: Sequence[Tracker],
    environ: Mapping[str, str] = os.environ,
    installed: Callable[[str], object] = find_spec,
) -> list[str]:
    """What these trackers lack in this process, where a controller runs; a sentence each."""
    found: list[str] = []
    for place, tracker in enumerate(trackers):
        where, (module, package) = f"tracking.{place}", PACKAGES[tracker.kind]
        if not installed(module):
            found.append(
                f"{where}: the package {package} is not installed where the controllers run: "
                f"`pip install {package}` there, or leave {tracker.kind} out"
            )
        elif tracker.kind == "mlflow" and not environ.get("MLFLOW_TRACKING_URI"):
            found.append(
                f"{where}: the environment of the dispatchers does not say where MLflow is: set "
                "MLFLOW_TRACKING_URI there, to https://... or sqlite:////..."
            )
        elif tracker.kind == "wandb" and not _knows_wandb(environ):
            found.append(
                f"{where}: the environment of the dispatchers has no key of Weights & Biases: set "
                "WANDB_API_KEY there, or WANDB_MODE=offline to keep its files in the job's folder"
            )
    return found


def _knows_wandb(environ: Mapping[str, str]) -> bool:
    offline = environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")
    logins = Path(environ.get("NETRC") or Path.home() / ".netrc")
    return offline or bool(environ.get("WANDB_API_KEY")) or logins.is_file()
