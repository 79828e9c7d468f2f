"""Writes services/page/vendor: the libraries of the web page, as their packages on npm ship them.

The page has no build step and loads nothing from elsewhere, so what it needs lies beside it: the
published ES modules of exact versions, their licences, and a manifest with a hash of every file.
A module that names another by its package is made to name it by its file, as a browser needs it
without an import map; nothing else is changed. `make vendor` runs this; it needs npm.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "services" / "page" / "vendor"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Package:
    """One package on npm. `files` maps what it ships to what it is called here."""

    name: str
    version: str
    licence: str
    integrity: str
    files: dict[str, str]
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its files lie; the version in it lets browsers keep them."""
        return f"{self.name}-{self.version}"


PACKAGES = (
    Package(
        "preact",
        "11.2.0",
        "MIT",
        "sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        {
            "dist/preact.mjs": "preact.mjs",
            "hooks/dist/hooks.mjs": "hooks.mjs",
            "LICENSE": "LICENSE",
        },
        {
            'from"preact"': 'from"./preact.mjs"',
            "\n//# sourceMappingURL=preact.mjs.map": "",
            "\n//# sourceMappingURL=hooks.mjs.map": "",
        },
    ),
    Package(
        "htm",
        "3.1.1",
        "Apache-2.0",
        "sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        {"dist/htm.mjs": "htm.mjs", "LICENSE": "LICENSE"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "MIT",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {
            "dist/uPlot.esm.js": "uPlot.mjs",
            "dist/uPlot.min.css": "uPlot.css",
            "LICENSE": "LICENSE",
        },
    ),
)


def main() -> None:
    """Fetch every package anew, check it, and replace the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "vendor"
        described = [_written(package, Path(scratch), fresh) for package in PACKAGES]
        (fresh / MANIFEST).write_text(json.dumps({"packages": described}, indent=2) + "\n")
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(fresh, VENDOR)


def _written(package: Package, scratch: Path, vendor: Path) -> dict[str, object]:
    archive = _fetched(package, scratch)
    folder = vendor / package.folder
    folder.mkdir(parents=True)
    hashes: dict[str, str] = {}
    with tarfile.open(archive) as shipped:
        for source, name in package.files.items():
            member = shipped.extractfile(f"package/{source}")
            assert member is not None, source
            text = member.read().decode()
            for old, new in package.replaced.items():
                text = text.replace(old, new)
            (folder / name).write_text(text)
            hashes[f"{package.folder}/{name}"] = hashlib.sha256(text.encode()).hexdigest()
    return {
        "name": package.name,
        "version": package.version,
        "licence": package.licence,
        "integrity": package.integrity,
        "sha256": hashes,
    }


def _fetched(package: Package, scratch: Path) -> Path:
    """The package's archive. Raises SystemExit when it is not the one that was reviewed."""
    done = subprocess.run(
        ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        cwd=scratch,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    archive = scratch / done.stdout.strip()
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise SystemExit(
            f"{package.name} {package.version} has the hash sha512-{digest}, not the "
            f"{package.integrity} that vendor.py expects; nothing was changed"
        )
    return archive


if __name__ == "__main__":
    main()
