"""Which models may be trained or asked here: Hub ids by pattern, folders below the roots.

A folder must hold a model that loads without running anything: safetensors, and no code of
its own is ever run (every load says `trust_remote_code=False`). Symbolic links lead nowhere
that the roots do not. Trained models are looked up by name, not here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from services.settings import Settings
from trainer.model_files import DEMO, looks_like_model

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class ModelPolicy:
    """What an operator allows."""

    def __init__(self, patterns: Sequence[str], roots: Sequence[Path], home: Path) -> None:
        """Hub ids that match one of `patterns` (`org/*`), and folders below one of `roots`, of
        which the data folder `home` is never part."""
        self._patterns = tuple(patterns)
        self._roots = [root.resolve() for root in roots]
        self._home = home.resolve()

    @classmethod
    def of(cls, settings: Settings) -> ModelPolicy:
        """What this environment allows."""
        roots = [Path(root) for root in settings.data_roots or ()]
        return cls(settings.allowed_models, roots, settings.home)

    def problem(self, name: str) -> str | None:
        """Why a model may not be used, or None. Reads the disk."""
        if name == DEMO:
            return None
        if Path(name).is_absolute():
            return self._folder_problem(name)
        if not _HUB_ID.fullmatch(name) or ".." in name:
            return (
                f"unknown model {name!r}: give the absolute path of a folder with config.json, a "
                f"Hugging Face id such as org/name, or {DEMO}"
            )
        if any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return None
        return (
            f"the model {name!r} is not one that this service may fetch "
            f"({', '.join(self._patterns) or 'none are'}); an operator may add it to "
            "STROP_ALLOWED_MODELS"
        )

    def _folder_problem(self, name: str) -> str | None:
        folder = Path(name).resolve()
        inside = any(folder.is_relative_to(root) for root in self._roots)
        if not inside or folder.is_relative_to(self._home):
            return (
                f"{name} lies outside of the folders that jobs may name; an operator may add its "
                "folder to STROP_DATA_ROOTS"
            )
        escaping = [path for path in _links(folder) if not self._held(path, folder)]
        if escaping:
            return f"{name}/{escaping[0].name} is a link that leads out of the folder"
        return looks_like_model(name)

    def _held(self, link: Path, folder: Path) -> bool:
        target = link.resolve()
        return target.is_relative_to(folder) or (
            not target.is_relative_to(self._home)
            and any(target.is_relative_to(root) for root in self._roots)
        )


def _links(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_symlink()]
