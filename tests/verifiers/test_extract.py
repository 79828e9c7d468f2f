"""The extraction step: where answers are found and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.extract import (
    Boxed,
    Extraction,
    ExtractionError,
    FencedBlock,
    Final,
    JsonPath,
    Tag,
    Text,
    extract,
)


@pytest.mark.parametrize(
    ("completion", "where", "answers"),
    [
        ("Thus \\boxed{12}.", "boxed", ("12",)),
        ("\\boxed{\\frac{1}{2}} and again \\boxed{\\frac{1}{2}}", "boxed", ("\\frac{1}{2}",)),
        ("The answer is 3. #### 4\n\\boxed{5}", "boxed", ("5",)),
        ("\\boxed 7", "boxed", ("7",)),
        ("3 + 4 = 7\n#### 7", "hashes", ("7",)),
        ("the answer is 3\n#### 7", "hashes", ("7",)),
        ("#### Step one\nWe add.\nThe answer is 9.", "phrase", ("9",)),
        ("The answer is 12.5 dollars. Good.", "phrase", ("12.5 dollars",)),
        ("**Answer:** $x = 3$", "phrase", ("$x = 3$",)),
        ("The final answer is:\n\n\\[ 12 \\]\n", "phrase", ("\\[ 12 \\]",)),
        ("The correct answer is option B", "phrase", ("option B",)),
        ("Answer: 3. Answer: 4", "phrase", ("3", "4")),
        ("so it is 12", "unmarked", ("so it is 12",)),
    ],
)
def test_final_takes_the_first_mark_that_occurs(
    completion: str, where: str, answers: tuple[str, ...]
):
    assert extract(Final(), completion) == Extraction(where, answers)  # type: ignore[arg-type]


def test_reasoning_is_no_answer():
    thought = "<think>perhaps \\boxed{1}</think>Then \\boxed{2}"
    assert extract(Final(), thought).answers == ("2",)
    assert extract(Boxed(), "the template opened it \\boxed{1}</think>\\boxed{2}").answers == ("2",)


@pytest.mark.parametrize("completion", ["<think>\\boxed{1}", "", " \n", "<think>x</think> "])
def test_reasoning_that_never_ends_and_empty_text_hold_no_answer(completion: str):
    with pytest.raises(ExtractionError):
        extract(Final(), completion)


def test_the_last_fenced_block_counts():
    text = "```json\n1\n```\nbetter:\n~~~\n```\n2\n~~~\n"
    assert extract(FencedBlock(), text).answers == ("```\n2",)
    assert extract(FencedBlock(), "```python\nx = 1").answers == ("x = 1",)
    assert extract(FencedBlock(), " plain ").answers == ("plain",)


def test_a_fence_inside_a_longer_fence_does_not_close_it():
    assert extract(FencedBlock(), "````\n```\na\n```\n````").answers == ("```\na\n```",)


def test_tags_are_found_by_name():
    assert extract(Tag(), "<answer> 1 </answer><answer>2</answer>").answers == ("1", "2")
    assert extract(Tag(tag="final"), "<answer>1</answer><final>3</final>").answers == ("3",)
    with pytest.raises(ExtractionError, match="<final>"):
        extract(Tag(tag="final"), "<answer>1</answer>")


def test_text_is_taken_as_it_is():
    assert extract(Text(), " \\boxed{1} ").answers == ("\\boxed{1}",)


@pytest.mark.parametrize(
    ("path", "value"),
    [("$", '{"a b": [1, {"c": "x"}]}'), ("$['a b'][1].c", "x"), ('$["a b"][-2]', "1")],
)
def test_a_json_path_leads_into_the_fenced_json(path: str, value: str):
    completion = '```json\n{"a b": [1, {"c": "x"}]}\n```'
    assert extract(JsonPath(path=path), completion).answers == (value,)


def test_a_json_path_that_leads_nowhere_finds_no_answer():
    with pytest.raises(ExtractionError, match=r"\$\.b"):
        extract(JsonPath(path="$.b"), '{"a": 1}')


@given(st.text(alphabet="abc019 .\n", min_size=1).filter(lambda text: text.strip() != ""))
def test_what_stands_in_a_box_comes_out(answer: str):
    found = extract(Boxed(), f"before \\boxed{{{answer}}} after").answers
    assert found == (answer.strip(),)


def test_what_stands_in_a_tag_keeps_its_lines():
    code = "def f(x):\n    if x:\n        return 'a  b'"
    assert extract(Tag(), f"<answer>\n{code}\n</answer>").answers == (code,)
    assert extract(Tag(), "<answer>1 2</answer><answer>1\n2</answer>").answers == ("1 2",)


@given(st.text())
def test_any_text_gives_answers_or_an_extraction_error(completion: str):
    for where in (Final(), Boxed(), FencedBlock(), Tag(), Text(), JsonPath(path="$.a")):
        try:
            assert all(isinstance(answer, str) for answer in extract(where, completion).answers)
        except ValueError:
            continue
