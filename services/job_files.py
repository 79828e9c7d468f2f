"""Job files: YAML or JSON on disk, read into a job spec, with every mistake told by its field."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from services.config import JobSpec
from services.errors import validation_message
from trainer.algorithm_spec import External, Opd


class ConfigError(ValueError):
    """A job file that cannot be used; the message names the file and every bad field."""


def describe(error: ValidationError) -> list[dict[str, str]]:
    """Each problem of a pydantic error as `{"field": "a.b", "message": "..."}`."""
    problems: list[dict[str, str]] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in item["loc"]) or "job"
        problems.append({"field": field, "message": validation_message(item)})
    return problems


def load_job(path: str | Path) -> JobSpec:
    """Read a YAML or JSON job file; relative task files and model folders are taken from its folder.

    Raises ConfigError when the file is unreadable, is not a mapping, or does not fit.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a job is a mapping of fields, this is {type(data).__name__}")
    try:
        spec = JobSpec.model_validate(data)
    except ValidationError as error:
        lines = [f"  {p['field']}: {p['message']}" for p in describe(error)]
        raise ConfigError("\n".join([f"{path}: {len(lines)} problem(s)", *lines])) from error
    return anchored(spec, path.resolve().parent)


def anchored(spec: JobSpec, folder: Path) -> JobSpec:
    """The same job with relative task files and documents, and relative model folders that
    exist, made absolute."""

    def absolute(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    tasks = spec.tasks.model_copy(
        update={"train": absolute(spec.tasks.train), "holdout": absolute(spec.tasks.holdout)}
    )

    def model_path(name: str) -> str:
        return str(folder / name) if (folder / name).is_dir() else name

    model = spec.model.model_copy(update={"path": model_path(spec.model.path)})
    algorithm = spec.algorithm
    if isinstance(algorithm, Opd):
        teacher = External(path=model_path(algorithm.teacher.path))
        algorithm = algorithm.model_copy(update={"teacher": teacher})
    privileged = spec.privileged
    if privileged is not None:
        documents = absolute(privileged.documents)
        privileged = privileged.model_copy(update={"documents": documents})
    changed = {"tasks": tasks, "model": model, "algorithm": algorithm, "privileged": privileged}
    return spec.model_copy(update=changed)
