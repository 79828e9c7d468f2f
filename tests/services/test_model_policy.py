"""Only models that the operator allows are loaded, and no model runs anything of its own."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from services.api.model_policy import ModelPolicy
from trainer.model_files import DEMO

ROOT = Path(__file__).parents[2]


def model(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / weights).write_bytes(b"x")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def policy(tmp_path: Path) -> ModelPolicy:
    roots = [tmp_path / "models"]
    return ModelPolicy(["my-org/*", "other/one"], roots, tmp_path / "models" / "home")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (DEMO, None),
        ("my-org/anything", None),
        ("other/one", None),
        ("other/two", "STROP_ALLOWED_MODELS"),
        ("my-org/../other", "unknown model"),
        ("my-org/a/b", "unknown model"),
        ("../my-org", "unknown model"),
        ("https://evil.test/my-org/x", "unknown model"),
        ("my-org/x\n", "unknown model"),
        ("MY-ORG/x", "STROP_ALLOWED_MODELS"),
        ("", "unknown model"),
    ],
)
def test_a_hub_id_is_allowed_by_pattern(policy: ModelPolicy, name: str, said: str | None) -> None:
    problem = policy.problem(name)
    assert (problem is None) if said is None else said in str(problem)


def test_a_folder_lies_below_a_root_wherever_links_lead(
    policy: ModelPolicy, tmp_path: Path
) -> None:
    good = model(tmp_path / "models" / "good")
    assert policy.problem(str(good)) is None
    outside = model(tmp_path / "outside")
    (tmp_path / "models" / "link").symlink_to(outside)
    home = model(tmp_path / "models" / "home" / "jobs" / "x")
    for bad in (
        outside,
        home,
        tmp_path / "models" / "link",
        tmp_path / "models" / ".." / "outside",
        tmp_path / "models-too",
        Path("/"),
        Path("/etc"),
    ):
        assert "STROP_DATA_ROOTS" in str(policy.problem(str(bad))), bad
    (good / "tokenizer_config.json").symlink_to("/etc/passwd")
    assert "leads out of the folder" in str(policy.problem(str(good)))


def test_weights_that_could_run_something_are_refused(policy: ModelPolicy, tmp_path: Path) -> None:
    for number, weights in enumerate(("pytorch_model.bin", "model.pt", "model.ckpt", "x.pickle")):
        folder = model(tmp_path / "models" / str(number), weights)
        assert "safetensors" in str(policy.problem(str(folder)))
    assert "config.json" in str(policy.problem(str(tmp_path / "models")))


def test_every_load_says_that_a_models_own_code_is_not_run() -> None:
    """A model's `auto_map` names code in its folder; whoever loads without a word on it asks a
    person, or runs it."""
    loads = 0
    for folder in ("services", "trainer"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if node.func.attr != "from_pretrained":
                    continue
                said = {keyword.arg: keyword.value for keyword in node.keywords}
                if "gguf_file" in said:
                    continue  # the demo model's own file, which came with a wheel
                value = said.get("trust_remote_code")
                assert isinstance(value, ast.Constant), f"{file}:{node.lineno}"
                assert value.value is False, f"{file}:{node.lineno}"
                loads += 1
    assert loads >= 8
