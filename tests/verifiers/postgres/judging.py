"""How the tests of this folder ask the judge."""

from typing import Any

from verifiers.judge import judge
from verifiers.spec import parse_spec
from verifiers.verdict import Verdict


def spec(database: str, gold: str, **options: Any) -> dict[str, Any]:
    return {"kind": "sql", "engine": "postgres", "database": database, "query": gold, **options}


def verdict(database: str, gold: str, completion: str, **options: Any) -> Verdict:
    return judge(parse_spec(spec(database, gold, **options)), completion)
