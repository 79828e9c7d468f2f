"""The quickstart's task files: one seed, one set of bytes; tasks that judge as they should."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from services.job_files import load_job
from trainer.context_checks import missing_privileged
from trainer.dataset import load_tasks
from trainer.records import Task
from verifiers.judge import judge
from verifiers.spec import parse_spec

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_tasks", QUICKSTART / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TASKS = generator()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    train, holdout = TASKS.write(tmp_path_factory.mktemp("tasks"))
    return train, holdout


@pytest.fixture(scope="module")
def split(files: tuple[Path, Path]) -> tuple[list[Task], list[Task]]:
    return load_tasks(files[0]), load_tasks(files[1])


def prompts(tasks: list[Task]) -> list[str]:
    return [task.messages[0]["content"] for task in tasks]


def test_the_same_seed_gives_the_same_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    again = TASKS.write(tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]
    other = TASKS.write(tmp_path / "other", seed=1)
    assert other[0].read_bytes() != files[0].read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_every_seed_can_make_the_tasks(seed: int, tmp_path: Path) -> None:
    train, holdout = TASKS.write(tmp_path, seed=seed)
    assert len(load_tasks(train)) == len(load_tasks(holdout)) == 240


def test_no_held_out_prompt_or_product_is_trained_on(
    split: tuple[list[Task], list[Task]],
) -> None:
    train, holdout = split
    assert len(set(prompts(train))) == len(train)
    assert not {task.id for task in train} & {task.id for task in holdout}
    assert not set(prompts(train)) & set(prompts(holdout))

    def factors(tasks: list[Task]) -> set[tuple[str, ...]]:
        found = [re.findall(r"\d+", p) for p in prompts([t for t in tasks if "product" in t.id])]
        return {tuple(sorted(pair)) for pair in found}

    assert factors(train)
    assert not factors(train) & factors(holdout)


def test_each_family_is_a_third_and_two_verifiers_judge(
    split: tuple[list[Task], list[Task]],
) -> None:
    for tasks in split:
        assert Counter(task.id.split("-")[1] for task in tasks) == {
            "product": 80,
            "sum": 80,
            "object": 80,
        }
        assert Counter(task.verifier["kind"] for task in tasks) == {"math": 160, "schema": 80}


def test_the_privileged_answer_and_trace_of_every_task_are_right(
    split: tuple[list[Task], list[Task]],
) -> None:
    for tasks in split:
        assert missing_privileged(tasks, "answer") == missing_privileged(tasks, "trace") == []
        for task in tasks:
            spec = parse_spec(task.verifier)
            for shown in (task.privileged.answer, task.privileged.trace):
                assert shown is not None
                assert judge(spec, shown).status == "correct", (task.id, shown)
            assert judge(spec, "I do not know.").score == 0.0


def test_more_tasks_than_there_are_products_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="but product has"):
        TASKS.write(tmp_path, train=3000)


def test_the_job_file_is_a_job_on_the_generated_tasks() -> None:
    job = load_job(QUICKSTART / "job.yaml")
    assert job.algorithm.kind == "rlsd"
    assert Path(job.tasks.train) == QUICKSTART / "tasks" / "train.jsonl"
    assert job.tasks.holdout is not None
    assert Path(job.tasks.holdout) == QUICKSTART / "tasks" / "holdout.jsonl"
    assert job.steps * job.sampling.groups_per_step <= 240
