"""Where databases may lie: nothing outside the folders that a pool was given is ever named."""

import os
from pathlib import Path

import pytest

from verifiers.databases import Databases, here
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, parse_spec
from verifiers.sql_spec import SqlSpec


def located(databases: Databases, path: str) -> str:
    spec = databases.located(parse_spec({"kind": "sql", "database": path, "query": "SELECT 1"}))
    assert isinstance(spec, SqlSpec)
    return spec.database


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second, tmp_path / "first-not"):
        folder.mkdir()
        (folder / "a.sqlite").touch()
    (first / "link").symlink_to(tmp_path / "first-not" / "a.sqlite")
    (first / "inner").symlink_to(second / "a.sqlite")
    return first, second


def test_a_path_is_relative_to_the_first_folder_and_may_lie_in_any(folders: tuple[Path, Path]):
    databases = Databases(folders)
    first, second = folders
    assert located(databases, "a.sqlite") == str(first / "a.sqlite")
    assert located(databases, str(second / "a.sqlite")) == str(second / "a.sqlite")
    assert located(databases, "absent.sqlite") == str(first / "absent.sqlite")
    assert located(databases, "inner") == str(second / "a.sqlite")


@pytest.mark.parametrize(
    "path", ["../first-not/a.sqlite", "link", "/etc/passwd", "../first/../first-not/a.sqlite", ".."]
)
def test_a_path_outside_is_refused_however_it_leads_there(folders: tuple[Path, Path], path: str):
    with pytest.raises(SpecError, match="lies outside"):
        located(Databases(folders), path)


def test_a_path_is_refused_in_a_composite_too(folders: tuple[Path, Path]):
    sql = {"kind": "sql", "database": "/etc/passwd", "query": "SELECT 1"}
    math = {"kind": "math", "answer": "1"}
    for spec in (
        {"kind": "composite", "parts": [{"verifier": sql}]},
        {"kind": "composite", "parts": [{"verifier": math}], "gate": sql},
    ):
        with pytest.raises(SpecError, match="lies outside"):
            Databases(folders).located(parse_spec(spec))


def test_without_a_folder_no_database_is_read():
    with pytest.raises(SpecError, match="no folder was named"):
        located(Databases(()), "a.sqlite")


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc/self", "/sys", "/nonexistent"])
def test_a_folder_of_the_systems_is_none_for_databases(folder: str):
    with pytest.raises(ValueError, match="databases: /"):
        Databases([folder])


def test_the_current_folder_counts_unless_it_is_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert here() == (os.path.realpath(tmp_path),)
    monkeypatch.chdir("/")
    assert here() == ()


def test_a_pool_refuses_before_any_work(folders: tuple[Path, Path]):
    with WorkerPool(1, databases=folders) as pool:
        sql = {"kind": "sql", "database": "../x.sqlite", "query": "SELECT 1"}
        with pytest.raises(SpecError, match="lies outside"):
            pool.judge_many([({"kind": "math", "answer": "1"}, "1"), (sql, "SELECT 1")])
        assert (pool.busy, pool.queued) == (0, 0)
