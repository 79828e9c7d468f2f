"""What an operator sets through the environment: every variable begins with `STROP_`.

The one place that knows the layout of the data folder. Job settings live in
services/config.py; nothing here changes what a job computes.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsConfigDict

from services.access_settings import AccessSettings, Names
from services.errors import BadSettings, validation_message

DEFAULT_PORT = 8420


def _default_home() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "strop"


class Settings(AccessSettings):
    """The service's settings, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="STROP_", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=_default_home,
        description="Data folder: store, keys, logs, and what jobs produce.",
    )
    port: int = Field(
        default=DEFAULT_PORT,
        ge=0,
        le=65535,
        description="Port the API listens on; 0 takes a free one.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis-protocol server to use; an embedded one is started when absent.",
    )
    ray_address: str | None = Field(
        default=None,
        description="Ray cluster to use, host:port; a local one is started when absent.",
    )
    cpus: int | None = Field(
        default=None,
        ge=1,
        description="CPUs the local Ray may hand out; all of the machine's when absent.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the local Ray's metrics, vLLM's among them; 0 takes a free one.",
    )
    tier_labels: bool = Field(
        default=False,
        description="Place a tier whose job names no labels on the Ray nodes that carry the label "
        "strop/<tier>=true, as those of deploy/kuberay do.",
    )
    max_running_jobs: int = Field(
        default=1, ge=1, description="Jobs that one dispatcher runs at the same time."
    )
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="Largest request body the API accepts."
    )
    max_upload_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1024, description="Largest file that may be uploaded."
    )
    upload_seconds: float = Field(
        default=600.0, gt=0, description="Longest that the upload of one file may take."
    )
    data_roots: Names | None = Field(
        default=None,
        description="Folders, separated by commas, in which jobs may name files of their own; "
        "`strop up` on loopback opens every file of its user, otherwise none is open.",
    )
    verify_workers: int = Field(
        default=2, ge=1, description="Processes in which the API judges what graders are run on."
    )
    databases: Path | None = Field(
        default=None,
        description="Folder of the database files that graders run through the API may query; "
        "none when absent.",
    )
    serve_models: int = Field(
        default=1, ge=1, description="Models that are served at the same time."
    )
    serve_cpus: float = Field(
        default=1.0,
        ge=0,
        description="CPUs a served model takes from the cluster; 0 shares them with training.",
    )
    serve_gpus: int | None = Field(
        default=None,
        ge=0,
        description="GPUs a served model is spread over; one when absent and the cluster has any.",
    )
    serve_kv_cache_gib: float = Field(
        default=1.0, gt=0, description="Memory for the contexts of a model that is served on CPUs."
    )
    serve_gpu_memory: float = Field(
        default=0.9, gt=0, le=1, description="Share of a GPU's memory that a served model may use."
    )
    serve_idle_seconds: float = Field(
        default=300.0, ge=1, description="A model that nobody used for so long is evicted."
    )
    serve_load_seconds: float = Field(
        default=600.0, ge=1, description="Time in which a model must be ready."
    )
    serve_wait_seconds: float = Field(
        default=300.0, ge=0, description="Time a request waits for its model to be ready."
    )
    serve_request_seconds: float = Field(
        default=600.0, ge=1, description="Time in which a completion must be answered whole."
    )
    serve_host: str = Field(
        default="127.0.0.1",
        description="Address where Ray Serve listens for the API, on the cluster's head; with "
        "0.0.0.0 the API looks for it at the head's address.",
    )
    serve_port: int = Field(default=0, ge=0, le=65535, description="Its port; 0 takes a free one.")
    url: str | None = Field(
        default=None, description="Where the CLI finds the API; the local service's when absent."
    )
    api_key: SecretStr | None = Field(
        default=None, description="The CLI's API key; the local user's own when absent."
    )

    @property
    def store_url(self) -> str:
        """Address of the store, with its password. Raises BadSettings when none is set."""
        if self.redis_url is None:
            raise BadSettings(
                "STROP_REDIS_URL is not set: give the address of a Redis-protocol server, or use "
                "`strop up`, which brings its own"
            )
        return self.redis_url.get_secret_value()

    @property
    def store_file(self) -> Path:
        """The store's address, for controllers on the cluster: they share the data folder."""
        return self.home / "store_url"

    @property
    def valkey_folder(self) -> Path:
        """Data of the embedded store."""
        return self.home / "valkey"

    @property
    def logs_folder(self) -> Path:
        """One log file for each process of the local service."""
        return self.home / "logs"

    @property
    def jobs_folder(self) -> Path:
        """One folder for each job: checkpoints, traces, the trained model."""
        return self.home / "jobs"

    @property
    def files_folder(self) -> Path:
        """One folder for each tenant with the files it uploaded."""
        return self.home / "files"

    @property
    def api_key_file(self) -> Path:
        """The local user's API key."""
        return self.home / "api_key"

    @property
    def ray_token_file(self) -> Path:
        """The token that every process of the local Ray cluster must present."""
        return self.home / "ray_token"

    @property
    def service_file(self) -> Path:
        """Url and process id of the running local service, as JSON."""
        return self.home / "service.json"


def load_settings() -> Settings:
    """The settings of this environment. Raises BadSettings with every bad variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings(
            "; ".join(_told(item) for item in error.errors(include_url=False))
        ) from None  # the cause would show every setting, passwords too


def _told(item: ErrorDetails) -> str:
    """One bad variable, or what several together got wrong."""
    if not item["loc"]:
        return validation_message(item)
    return f"STROP_{str(item['loc'][0]).upper()} is {item['input']!r}: {item['msg']}"
