"""The job spec: small, documented, strict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.config import JobSpec
from services.job_files import ConfigError, describe, load_job
from trainer.algorithm_spec import Mix, Opd, Rlsd, Synced

MINIMAL: dict[str, Any] = {"model": {"path": "m"}, "tasks": {"train": "train.jsonl"}}


def leaves(
    schema: dict[str, Any], node: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, str]]:
    """(path, description) of every leaf key; the members of a union count each."""
    if "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **node}
    branches = [b for key in ("anyOf", "oneOf") for b in node.get(key, []) if "$ref" in b]
    for branch in branches:
        yield from leaves(schema, branch, path)
    properties = node.get("properties", {})
    for name, child in properties.items():
        inner = list(leaves(schema, child, f"{path}.{name}".lstrip(".")))
        yield from inner or [(f"{path}.{name}".lstrip("."), child.get("description", ""))]


def refused(**changes: Any) -> list[dict[str, str]]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({**MINIMAL, **changes})
    return describe(caught.value)


def test_the_spec_has_about_80_leaf_keys_and_every_one_is_documented() -> None:
    schema = JobSpec.model_json_schema()
    found = dict(leaves(schema, schema))
    assert 40 < len(found) <= 84
    assert [path for path, description in found.items() if not description] == []


def test_the_resolved_spec_reads_back_as_itself() -> None:
    spec = JobSpec.model_validate(MINIMAL)
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.privileged is not None, "an algorithm with a teacher has a view for it"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"group_size": 1}}, "sampling.group_size is 1: rlsd compares"),
        ({"algorithm": {"kind": "grpo"}, "privileged": {}}, "grpo has no teacher"),
        ({"sampling": {"max_tokens": 1024}}, "leaves no room for a prompt in model.max_length"),
        ({"evaluation": {"every": 2}}, "tasks.holdout names no held-out tasks"),
        ({"optimizer": {"updates_per_batch": 9}}, "optimizer.updates_per_batch is 9"),
        ({"algorithm": {"kind": "opd", "teacher": {"path": "t"}}, "privileged": {}}, "of its own"),
        (
            {"algorithm": {"kind": "sdpo"}, "privileged": {"kind": "trace"}},
            "sdpo learns from sibling",
        ),
        (
            {
                "algorithm": {"kind": "rlsd", "evidence": "contrastive"},
                "privileged": {"kind": "none"},
            },
            "privileged.kind none has no wrong counterpart",
        ),
        (
            {"algorithm": {"kind": "grpo", "overlong_buffer": 512}},
            "algorithm.overlong_buffer is 512",
        ),
        (
            {
                "algorithm": {"kind": "opsd"},
                "privileged": {"kind": "sibling"},
                "sampling": {"group_size": 1},
            },
            "sampling.group_size is 1: opsd compares",
        ),
        ({"steps": 3, "optimizer": {"warmup_steps": 4}}, "optimizer.warmup_steps is 4"),
    ],
)
def test_a_combination_that_means_nothing_is_refused_by_name(
    changes: dict[str, Any], words: str
) -> None:
    (problem,) = refused(**changes)
    assert words in problem["message"]


@pytest.mark.parametrize(
    ("algorithm", "field", "words"),
    [
        ({"kind": "grpo", "ratio": "cispo", "dual_clip": 3}, "algorithm.grpo", "dual_clip is set"),
        ({"kind": "opsd", "divergence": "forward_kl"}, "algorithm.opsd", "set top_k"),
        ({"kind": "opsd", "divergence": 1.5, "top_k": 4}, "algorithm.opsd.divergence", ""),
        ({"kind": "opsd", "clip": [0.2, 0.3]}, "algorithm.opsd.clip", "not permitted"),
        ({"kind": "grpo", "alpha": 0.5}, "algorithm.grpo.alpha", "not permitted"),
        ({"kind": "opd"}, "algorithm.opd.teacher", "required"),
        ({"kind": "rlsd", "mix": {"over": "120%"}}, "algorithm.rlsd.mix", "over is '120%'"),
        ({"kind": "rlsd", "mix": {"over": 0}}, "algorithm.rlsd.mix", "over is 0"),
        (
            {"kind": "rlsd", "evidence": "reversed", "negative_only": True},
            "algorithm.rlsd",
            "negative_only is set",
        ),
        ({"kind": "rlsd", "teacher": {"ema": 1.5}}, "algorithm.rlsd.teacher", ""),
    ],
)
def test_a_knob_that_means_nothing_to_its_algorithm_is_refused(
    algorithm: dict[str, Any], field: str, words: str
) -> None:
    problems = refused(algorithm=algorithm)
    assert all(problem["field"].startswith(field) for problem in problems), problems
    assert any(words in problem["message"] for problem in problems), problems


def test_every_algorithm_runs_from_one_word() -> None:
    for kind in ("grpo", "rlsd", "opsd", "grpo_opsd", "sdpo"):
        spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"kind": kind}})
        assert (spec.privileged is None) == (kind == "grpo")
        assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    external = {"kind": "opd", "teacher": {"path": "t"}}
    assert JobSpec.model_validate({**MINIMAL, "algorithm": external}).has_teacher


def test_distillation_needs_no_group() -> None:
    alone = {"sampling": {"group_size": 1}, "algorithm": {"kind": "opsd"}}
    assert not JobSpec.model_validate({**MINIMAL, **alone}).needs_contrast


def rlsd(**changes: Any) -> Rlsd:
    spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"kind": "rlsd", **changes}})
    assert isinstance(spec.algorithm, Rlsd)
    return spec.algorithm


def test_a_preset_sets_what_is_not_given() -> None:
    paper, released = rlsd(), rlsd(preset="released")
    assert (paper.mix, paper.teacher) == (Mix(start=0.5, over=50), Synced(synced=10))
    assert (released.mix, released.teacher) == (Mix(start=0.5, over=60), Synced(synced=20))
    own = rlsd(preset="released", mix={"start": 0.3}, teacher="live")
    assert (own.mix, own.teacher) == (Mix(start=0.3, over=60), "live")


@pytest.mark.parametrize(
    ("teacher", "versions"),
    [
        ({"synced": 3}, [0, 3, 6]),
        ("live", [0, 1, 2, 3, 4, 5, 6]),
        ({"ema": 0.1}, [0, 1, 2, 3, 4, 5, 6]),
        ("frozen", []),
    ],
)
def test_the_teacher_is_sent_the_versions_its_weights_are_made_of(
    teacher: Any, versions: list[int]
) -> None:
    spec = JobSpec.model_validate({**MINIMAL, "algorithm": {"kind": "opsd", "teacher": teacher}})
    assert [version for version in range(7) if spec.syncs_teacher(version)] == versions


def test_a_teacher_of_its_own_and_no_teacher_are_sent_nothing() -> None:
    for algorithm in ({"kind": "grpo"}, {"kind": "opd", "teacher": {"path": "t"}}):
        spec = JobSpec.model_validate({**MINIMAL, "algorithm": algorithm})
        assert not any(spec.syncs_teacher(version) for version in range(3))


def test_a_misspelt_key_an_unknown_algorithm_and_a_bad_value_are_each_named() -> None:
    fields = {p["field"] for p in refused(stepps=3, steps=0, algorithm={"kind": "ppo"})}
    assert fields == {"stepps", "steps", "algorithm"}


def test_a_job_file_is_refused_with_its_name_and_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for text, words in [
        ("model: [", "is not YAML"),
        ("- 1\n", "a job is a mapping of fields, this is list"),
        ("model: {path: m}\ntasks: {}\nsteps: none\n", "2 problem(s)"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"job\.yaml") as caught:
            load_job(path)
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_job(tmp_path / "absent.yaml")


def test_relative_files_are_taken_from_the_job_files_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "job.yaml").write_text(
        "model: {path: weights}\ntasks: {train: t.jsonl}\n"
        "algorithm: {kind: opd, teacher: {path: weights}}\n"
    )
    spec = load_job(tmp_path / "job.yaml")
    assert isinstance(spec.algorithm, Opd)
    assert spec.algorithm.teacher.path == str(tmp_path / "weights")
    assert spec.model.path == str(tmp_path / "weights")
    assert spec.tasks.train == str(tmp_path / "t.jsonl")


def test_the_spec_and_the_verifiers_import_without_torch_ray_or_vllm() -> None:
    code = (
        "import sys, services.config, verifiers.spec, verifiers.judge, verifiers.pool\n"
        "print({'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr
