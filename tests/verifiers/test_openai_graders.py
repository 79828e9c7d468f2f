"""OpenAI's graders become verifier specs, and judge as OpenAI's documentation says."""

from typing import Any

import pytest

from verifiers.judge import judge
from verifiers.openai_graders import check_grader, spec_of
from verifiers.similarity import similarity
from verifiers.spec import SpecError, dump_spec, parse_spec
from verifiers.verdict import Verdict

OUTPUT = "{{sample.output_text}}"
PYTHON = "def grade(sample, item):\n    return float(sample['output_text'] == item['answer'])\n"


def string_check(operation: str = "eq", **changes: Any) -> dict[str, Any]:
    return {
        "type": "string_check", "name": "check", "input": OUTPUT,
        "reference": "{{item.answer}}", "operation": operation, **changes,
    }  # fmt: skip


def similar(metric: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "text_similarity", "name": "alike", "input": OUTPUT,
        "reference": "{{item.answer}}", "evaluation_metric": metric, **changes,
    }  # fmt: skip


def graded(grader: dict[str, Any], said: str, **item: Any) -> Verdict:
    check_grader(grader)
    spec = spec_of(grader, item)
    assert parse_spec(dump_spec(spec)) == spec, "it travels to a worker as plain data"
    return judge(spec, said)


@pytest.mark.parametrize(
    ("operation", "said", "holds"),
    [
        ("eq", "Oslo", True), ("eq", "oslo", False), ("eq", "<think>Rome?</think>\nOslo", True),
        ("ne", "Rome", True), ("ne", "Oslo", False), ("like", "It is Oslo.", True),
        ("like", "It is oslo.", False), ("ilike", "It is OSLO.", True), ("ilike", "Rome", False),
    ],
)  # fmt: skip
def test_string_check(operation: str, said: str, holds: bool):
    verdict = graded(string_check(operation), said, answer="Oslo")
    assert (verdict.score, verdict.status) == ((1.0, "correct") if holds else (0.0, "wrong"))


def test_a_sample_that_lacks_what_is_compared_is_malformed():
    grader = string_check(input="{{sample.output_json.city}}")
    assert graded(grader, '{"city": "Oslo"}', answer="Oslo").status == "correct"
    for said in ("Oslo", '{"town": "Oslo"}', "", '{"city": null}'):
        verdict = graded(grader, said, answer="Oslo")
        assert (verdict.score, verdict.status) == (0.0, "malformed")


def test_what_a_row_or_a_completion_says_is_never_a_template():
    assert graded(string_check(), OUTPUT, answer=OUTPUT).status == "correct"
    assert graded(string_check(), "hello", answer=OUTPUT).status == "wrong"
    assert graded(string_check(), "{{item.answer}}", answer="12").status == "wrong"


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("fuzzy_match", 14 / 17), ("bleu", 0.3216), ("gleu", 9 / 22), ("meteor", 0.7014),
        ("rouge_1", 10 / 13), ("rouge_2", 6 / 11), ("rouge_3", 2 / 9), ("rouge_4", 0.0),
        ("rouge_5", 0.0), ("rouge_l", 10 / 13),
    ],
)  # fmt: skip
def test_text_similarity(metric: Any, score: float):
    verdict = graded(
        similar(metric), "the cat sat on the mat", answer="the cat is sitting on the mat"
    )
    assert verdict.score == pytest.approx(score, abs=1e-4)
    assert verdict.status == "wrong"
    assert similarity(metric, "a b c d e f", "a b c d e f") == pytest.approx(1.0, abs=0.01)
    assert similarity(metric, "one two three", "vier") < 0.3
    assert similarity(metric, "", "") == 1.0
    assert similarity(metric, "", "x") == similarity(metric, "x", "") == 0.0


def test_a_threshold_says_what_is_correct_and_leaves_the_score_alone():
    verdict = graded(similar("rouge_1", pass_threshold=0.5), "a b c", answer="a b d")
    assert (verdict.score, verdict.status) == (pytest.approx(2 / 3), "correct")


def test_python_sees_the_sample_and_the_row():
    grader = {"type": "python", "name": "p", "source": PYTHON, "image_tag": "2025-05-08"}
    assert graded(grader, "Oslo", answer="Oslo").score == 1.0
    source = "def grade(sample, item):\n    return sample['output_json']['n'] / item['of']\n"
    grader = {"type": "python", "name": "p", "source": source}
    assert graded(grader, '{"n": 1}', of=4).score == 0.25
    broken = graded(grader, "no JSON", of=4)
    assert (broken.score, broken.status) == (None, "infra_error")
    assert "output_json" in broken.evidence["reason"]


@pytest.mark.parametrize("form", ["by name", "list", "single"])
def test_multi_computes_its_output_from_the_graders_scores(form: str):
    one, two = string_check(name="check"), similar("rouge_1", name="alike")
    graders: Any = {"check": one, "alike": two} if form == "by name" else [one, two]
    formula = "0.25 * check + 0.75 * max(alike, 0)"
    if form == "single":
        graders, formula = two, "0.75 * alike"
    grader = {"type": "multi", "name": "m", "graders": graders, "calculate_output": formula}
    verdict = graded(grader, "a b c", answer="a b d")
    assert verdict.score == pytest.approx(0.5)
    assert verdict.status == "wrong"
    assert [part["part"] for part in verdict.evidence["parts"]][-1] == "alike"


def test_multi_never_makes_a_score_of_a_fault():
    broken = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1 / 0"}
    base = {"type": "multi", "name": "m", "graders": {"p": broken, "c": string_check()}}
    verdict = graded({**base, "calculate_output": "c"}, "Oslo", answer="Oslo")
    assert (verdict.score, verdict.status) == (None, "infra_error")
    assert verdict.evidence["reason"].startswith("p: ZeroDivisionError")
    base["graders"] = {"c": string_check()}
    for formula, says in (("c + 1", "gives 2.0"), ("c / (c - 1)", "no value")):
        verdict = graded({**base, "calculate_output": formula}, "Oslo", answer="Oslo")
        assert (verdict.score, verdict.status) == (None, "infra_error")
        assert says in verdict.evidence["reason"]


def test_our_own_kinds_are_graders_with_templates():
    math = {"type": "math", "name": "m", "answer": "{{item.answer}}"}
    assert graded(math, "so 0.5", answer="\\frac{1}{2}").status == "correct"
    assert graded(math, "12", answer=12).status == "correct"
    choice = {"type": "choice", "answer": "{{item.a}}", "choices": "{{item.options}}"}
    assert graded(choice, "Oslo", a="B", options=["Rome", "Oslo"]).status == "correct"
    schema = {"type": "schema", "schema": {"type": "object"}, "expected": {"n": "{{item.n}}"}}
    assert graded(schema, '{"n": 2}', n=2).status == "correct"
    mixed = {
        "type": "multi", "name": "m", "calculate_output": "(math + form) / 2",
        "graders": {"math": math, "form": {"kind": "text", "regex": ".*12.*"}},
    }  # fmt: skip
    assert graded(mixed, "12", answer="12").status == "correct"


def test_a_spec_is_taken_as_it_stands():
    spec = {"kind": "math", "answer": "12"}
    assert spec_of(spec, {"answer": "13"}) == parse_spec(spec)


@pytest.mark.parametrize(
    ("grader", "says"),
    [
        ({"type": "oracle"}, "'oracle' is no grader; the types are string_check"),
        ({"type": ["math"]}, "is no grader"),
        ({"name": "x"}, "give a `type`"),
        ({"type": "math", "kind": "math", "answer": "1"}, "give a `type`"),
        (string_check(colour="red"), "colour: is no field"),
        (string_check("is"), "operation"),
        (string_check(input="12"), "looks at the sample"),
        (string_check(input="{{sample.choices}}"), "no part of a sample"),
        (string_check(reference=None), "reference"),
        (similar("cosine"), "embeddings"),
        (similar("wer"), "evaluation_metric"),
        ({"type": "python", "name": "p", "source": "x = 1"}, "grade(sample, item)"),
        ({"type": "python", "name": "p", "source": "def grade(:"}, "no Python"),
        ({"type": "math", "answer": "{{sample.output_text}}"}, "extract"),
        ({"type": "math", "answer": "{{item.a!}}"}, "no template"),
        ({"type": "math", "answr": "12"}, "answr"),
        ({"type": "math", "answr": "{{item.answer}}"}, "answr"),
        ({"type": "multi", "graders": {"a": string_check()}, "calculate_output": "b"}, "'b' is no"),
        ({"type": "multi", "graders": {"a": string_check()}, "calculate_output": "a.b"}, "no part"),
        ({"type": "multi", "graders": [string_check()] * 2, "calculate_output": "1"}, "own"),
        ({"type": "multi", "graders": {"a": 1}, "calculate_output": "a"}, "must be a grader"),
        ({"type": "multi", "calculate_output": "a"}, "graders"),
        ({"type": "multi", "graders": {"a b": string_check()}, "calculate_output": "1"}, "a b"),
        (
            {"type": "multi", "calculate_output": "m", "graders": {"m": {
                "type": "multi", "calculate_output": "c", "graders": {"c": string_check()}}}},
            "plain verifier",
        ),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_be_used_is_refused_whatever_the_row(
    grader: dict[str, Any], says: str
):
    with pytest.raises(SpecError) as error:
        check_grader(grader)
    assert says in str(error.value)


def test_a_row_that_lacks_what_a_grader_names_is_refused():
    for grader in (string_check(), {"type": "math", "answer": "{{item.answer}}"}):
        check_grader(grader)
        with pytest.raises(SpecError, match=r"nothing at \{\{item.answer\}\}"):
            spec_of(grader, {"question": "?"})
