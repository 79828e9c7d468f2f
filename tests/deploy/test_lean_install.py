"""The package without extras carries the API, the CLI and the verifiers: no torch, no Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "vllm", "transformers")

# In a process of its own: refuse every module of a distribution that is not allowed, then import.
_IMPORT = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is not part of the lean install", name=name)

refused, modules, arguments = set(%s), %s, %s
sys.meta_path.insert(0, Refuse())
for module in modules:
    importlib.import_module(module)
if arguments:
    sys.argv = ["strop", *arguments]
    importlib.import_module("services.cli").main()
"""


def _installed(wanted: list[str]) -> set[str]:
    """Names of the distributions that these requirements bring, with all below them."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in wanted]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, parent_extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needs = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            found.add(name)
            waiting += [(Requirement(text), extra) for text in needs]
    return found


def _import_with(
    wanted: list[str], modules: list[str], arguments: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    allowed = _installed(wanted)
    refused = [
        module
        for module, distributions in metadata.packages_distributions().items()
        if not allowed & {name.lower().replace("_", "-") for name in distributions}
        and "strop" not in distributions
        and module not in sys.stdlib_module_names
    ]
    code = _IMPORT % tuple(map(json.dumps, (refused, modules, arguments)))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def _lean() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"]


def test_the_plain_package_brings_all_that_the_api_the_cli_and_the_verifiers_import() -> None:
    modules = ["services.api.__main__", "services.cli.commands", "services.cli.keys"]
    done = _import_with(_lean(), [*modules, "services.cli.verify", "verifiers.worker"])
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_models_says_what_to_install() -> None:
    done = _import_with(_lean(), [], ("chat", "smollm2-135m-instruct"))
    assert done.returncode == 2
    assert "install strop with its extra cpu or gpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dependency_that_the_plain_package_lacks_is_noticed() -> None:
    done = _import_with([text for text in _lean() if "fastapi" not in text], ["services.api.app"])
    assert "fastapi is not part of the lean install" in done.stderr


def test_the_plain_package_brings_neither_torch_nor_ray() -> None:
    assert not _installed(_lean()) & set(HEAVY)


def test_the_training_extras_bring_torch_and_ray() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {"torch", "ray", "transformers"} <= _installed(extras["engine"])
    assert all("strop[engine]" in extras[extra] for extra in ("cpu", "gpu"))
