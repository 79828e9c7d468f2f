"""Checkpoints: everything a job needs to continue as if it had never stopped.

A checkpoint is a folder `step-00000012` with `model/` (config, tokenizer, safetensors: what
transformers and vLLM load), `state.safetensors` (float32 masters, optimizer moments, RNG),
`state.json` (plain data and the data cursor) and `manifest.json` (size and SHA-256 of every
file). It is written beside its place, flushed and renamed: it is there whole or not at all. One that
is damaged all the same is found by its checksums and set aside. No pickle. Knows nothing of
what the state means.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from trainer.policy import Policy

MANIFEST = "manifest.json"
NAME = re.compile(r"^step-(\d{8})$")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or trusted; the message names the file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: `step` steps are done, `cursor` is the caller's own data."""

    folder: Path
    step: int
    cursor: dict[str, Any]

    @property
    def model(self) -> Path:
        """The model folder inside."""
        return self.folder / "model"

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State tensors and plain data, as they were given to `save`, verified by checksum.

        Raises CheckpointError when a file is missing or is not what was written.
        """
        verify(self.folder)
        data = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        return load_file(self.folder / "state.safetensors"), data["state"]


def save_model(policy: Policy, folder: Path) -> None:
    """Write the policy as a model folder: config, tokenizer and weights in its compute dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.module.config.dtype = policy.dtype
    policy.module.save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy.folder, trust_remote_code=False).save_pretrained(folder)


def save(
    root: str | Path,
    *,
    step: int,
    policy: Policy,
    tensors: Mapping[str, Tensor],
    data: Mapping[str, Any],
    cursor: Mapping[str, Any],
    keep: int,
) -> Checkpoint:
    """Write the checkpoint of `step` done steps under `root`; the newest `keep` are kept.

    `data` and `cursor` must be JSON. An existing checkpoint of the same step is replaced.
    Raises CheckpointError when the disk refuses.
    """
    root = Path(root)
    folder = root / f"step-{step:08d}"
    draft = root / f".{folder.name}.{os.getpid()}.part"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_model(policy, draft / "model")
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(flat, draft / "state.safetensors")
        state = {"step": step, "state": dict(data), "cursor": dict(cursor)}
        (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")
        files = {
            str(path.relative_to(draft)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        manifest = {"step": step, "torch": torch.__version__, "files": files}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in [*draft.rglob("*"), draft]:
            _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
        _flush(root)
    except (OSError, SafetensorError) as error:  # safetensors wraps what the disk says
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(f"{folder} cannot be written: {error}") from error
    for old in _complete(root)[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder, step, dict(cursor))


@dataclass(frozen=True, slots=True)
class Found:
    """What `newest` found: a checkpoint that can be trusted, if any, and what is wrong with each
    newer one, which now lies beside it as `damaged-step-...`."""

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...] = ()


def newest(root: str | Path) -> Found:
    """The newest checkpoint under `root` of which every byte is what was written.

    For whoever is about to continue from it, and alone writes there: damaged ones are set
    aside, so that they count among those kept no more, and drafts of a writer that died go.
    """
    root, damaged = Path(root), list[str]()
    for draft in root.glob(".step-*.part"):
        shutil.rmtree(draft)
    for folder in reversed(_complete(root)):
        try:
            return Found(checked(folder), tuple(damaged))
        except CheckpointError as error:
            damaged.append(str(error))
            aside = root / f"damaged-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
    return Found(None, tuple(damaged))


def checked(folder: Path) -> Checkpoint:
    """The checkpoint in this folder. Raises CheckpointError unless it is whole."""
    verify(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(folder, state["step"], state["cursor"])


def verify(folder: Path) -> None:
    """Compare every file with the manifest. Raises CheckpointError naming the first that differs."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}/{MANIFEST} is damaged: {error!r}") from error
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != expected["bytes"] or sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{path} is not what was written")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(root: Path) -> list[Path]:
    """Checkpoint folders under `root`, oldest first; drafts are not among them."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if NAME.match(path.name) and path.is_dir())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
