"""Where databases may lie: nothing outside the folders that a pool was given is ever named."""

import sqlite3
from pathlib import Path

import pytest

from verifiers.databases import Databases
from verifiers.pool import WorkerPool
from verifiers.spec import SpecError, parse_spec
from verifiers.sql_spec import SqlSpec


def located(databases: Databases, path: str) -> str:
    spec, _ = databases.located(parse_spec({"kind": "sql", "database": path, "query": "SELECT 1"}))
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


def test_without_bounds_folders_are_those_that_specs_name(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    first, second = folders
    monkeypatch.chdir(first)
    databases = Databases(None)
    assert databases.folders == ()
    assert located(databases, "a.sqlite") == str(first / "a.sqlite")
    assert located(databases, "../second/a.sqlite") == str(second / "a.sqlite")
    assert located(databases, str(first / "b.sqlite")) == str(first / "b.sqlite")
    assert databases.folders == (str(first), str(second))
    for path in ("/etc/passwd", "/proc/self/mem", "/a.sqlite"):
        with pytest.raises(SpecError, match="holds more than databases"):
            located(databases, path)
    assert databases.folders == (str(first), str(second))


def test_workers_of_a_pool_without_bounds_read_each_database_once_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    specs: list[dict[str, str]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "shop.sqlite"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE item (name TEXT)")
            database.execute("INSERT INTO item VALUES (?)", (name,))
        database.close()
        specs.append({"kind": "sql", "database": str(path), "query": "SELECT name FROM item"})
    specs[1]["database"] = "two/shop.sqlite"
    cases = [(spec, answer) for spec in specs for answer in ("SELECT name FROM item", "SELECT 1")]
    with WorkerPool(2, databases=None) as pool:
        verdicts = pool.judge_many(cases * 2)
        assert [verdict.status for verdict in verdicts] == ["correct", "wrong"] * 4
        assert pool.replaced == 0


def test_a_pool_refuses_before_any_work(folders: tuple[Path, Path]):
    with WorkerPool(1, databases=folders) as pool:
        sql = {"kind": "sql", "database": "../x.sqlite", "query": "SELECT 1"}
        with pytest.raises(SpecError, match="lies outside"):
            pool.judge_many([({"kind": "math", "answer": "1"}, "1"), (sql, "SELECT 1")])
        assert (pool.busy, pool.queued) == (0, 0)
