"""Files that only their owner may read: keys, tokens, passwords and the folders around them.

And one owner at a time: a folder can be held by one process and its children.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from services.errors import CannotStart


def make_private_folder(folder: Path) -> None:
    """Create the folder, with its parents, for the owner alone."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write the file with mode 0600, whole or not at all, whatever was there before."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def hold_folder(folder: Path) -> int:
    """Keep other services off the folder until the returned descriptor is closed.

    A child that inherits the descriptor holds the folder too. Raises CannotStart when
    somebody else holds it.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CannotStart(
            f"a service already runs on the data folder {folder}; stop it first, or set "
            "STROP_HOME to another folder"
        ) from error
    return descriptor
