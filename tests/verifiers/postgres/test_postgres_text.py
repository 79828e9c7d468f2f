"""PostgreSQL's lexer as the judge follows it: where strings, comments and queries end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.postgres_text import grouping, literal, quoted, single
from verifiers.sql_session import RefusedError


def words(sql: str) -> list[str]:
    return [token.text for token in single(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT Name", ["select", "name"]),
        ('SELECT "Name"', ["select", "Name"]),
        ('SELECT "a""b"', ["select", 'a"b']),
        ("SELECT 1; -- done\n ;/* x */", ["select", "1"]),
        ("SELECT 'a;''b'", ["select", "'a;''b'"]),
        (r"SELECT E'a\';b'", ["select", r"E'a\';b'"]),
        (r"SELECT 'a\'", ["select", r"'a\'"]),
        ("SELECT $$;'$$, $a$ $$ ; $a$", ["select", "$$;'$$", ",", "$a$ $$ ; $a$"]),
        ("SELECT a$b$c", ["select", "a$b$c"]),
        ("SELECT/* /* */ ; */1", ["select", "1"]),
        ("SELECT 1--;\n+2", ["select", "1", "+", "2"]),
        ("(SELECT 1)", ["(", "select", "1", ")"]),
        ("SELECT É", ["select", "É"]),
    ],
)
def test_tokens_are_cut_as_the_server_cuts_them(sql: str, expected: list[str]):
    assert words(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "", ";", "-- SELECT 1", "DELETE FROM t", "SELECT 1; SELECT 2", "SELECT 1;; DROP TABLE t",
        "SELECT 'a", 'SELECT "a', 'SELECT ""', "SELECT $a$ $b$", "SELECT /* /* */", "SELECT $1",
        "SELECT (1", "SELECT 1) AS q, (SELECT 2", "SELECT 1)(", 'SELECT U&"\\0061"', "SELECT u&'a'",
        "SELECT E'a'\n'\\' || ' || pg_sleep(9)::text --'", "SELECT E'a' -- b\n  'c'", "COPY t TO '/tmp/x'",
        "EXPLAIN SELECT 1", "SET a = 1", "DO $$ $$", '"select" 1', "SELECT \0",
    ],
)  # fmt: skip
def test_what_is_no_single_closed_select_is_refused(sql: str):
    with pytest.raises(RefusedError):
        single(sql)


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))))
def test_whatever_stands_in_a_string_a_name_or_a_comment_is_no_code(text: str):
    assert words(f"SELECT {literal(text)}, 1") == ["select", literal(text), ",", "1"]
    assert words("SELECT E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "', 1")[2:] == [
        ",",
        "1",
    ]
    if text:
        assert words(f"SELECT {quoted(text)}") == ["select", text]
    line = text.replace("\n", " ").replace("\r", " ")
    assert words(f"SELECT 1 -- {line}\n + 2") == ["select", "1", "+", "2"]
    inside = text.replace("/", " ").replace("*", " ")
    assert words(f"SELECT 1 /* {inside} /* {inside} */ */ + 2") == ["select", "1", "+", "2"]
    tag = "x" + "".join(str(ord(c)) for c in text)[:40]
    assert words(f"SELECT ${tag}${text.replace('$', ' ')}${tag}$, 1")[2:] == [",", "1"]


@given(st.text("'\"$/*-();eE\\U&a1 \n", max_size=60))
def test_any_text_is_cut_or_refused(text: str):
    try:
        tokens = single(f"SELECT {text}")
    except RefusedError:
        return
    ends = [0, *(end for token in tokens for end in (token.start, token.end))]
    assert ends == sorted(ends)
    assert all(token.depth >= 0 for token in tokens)


def test_the_grouping_of_a_column_is_that_of_its_own_select():
    sql = "SELECT c.a, (SELECT s.b FROM s GROUP BY s.x) FROM c GROUP BY c.id UNION SELECT 1 FROM d GROUP BY 1"
    tokens = single(sql)
    assert grouping(tokens, sql.index("c.a"), "c") == sql.index(" c.id")
    assert grouping(tokens, sql.index("s.b"), "s") == sql.index(" s.x")
    assert grouping(tokens, sql.index("s.b"), "c") == sql.index(" c.id")
    assert grouping(tokens, sql.index("c.a"), "d") is None
