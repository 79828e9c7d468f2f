"""The math judge on labelled pairs, on math-verify's known mistakes and on prose."""

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.verifier_rows import math_pairs
from verifiers.algebra import approximate, equal
from verifiers.expression import parse
from verifiers.judge import judge
from verifiers.spec import parse_spec

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train_2000.jsonl"


def status(gold: str, completion: str) -> str:
    return judge(parse_spec({"kind": "math", "answer": gold}), completion).status


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("\\frac{1}{2}", "0.5"), ("\\frac12", "1/2"), ("1\\frac{1}{2}", "3/2"), ("1.5", "1 1/2"),
        ("1234", "1,234"), ("10000", "10\\,000"), ("1{,}234", "1234"), ("18.9", "\\$18.90"),
        ("72", "72.00"), ("-3", "−3"), ("2^{10}", "1024"), ("5!", "120"), ("\\binom{5}{2}", "10"),
        ("2\\sqrt{3}", "\\sqrt{12}"), ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt2"), ("2i", "\\sqrt{-4}"),
        ("\\sqrt{2}-1", "\\frac{1}{1+\\sqrt{2}}"), ("2\\sqrt[3]{2}", "\\sqrt[3]{16}"),
        ("x^2+2x+1", "(x+1)^2"), ("x+1", "\\frac{x^2-1}{x-1}"), ("2\\pi r", "r \\cdot 2π"),
        ("50\\%", "0.5"), ("50\\%", "\\frac{1}{2}"), ("90^\\circ", "90"), ("90", "90°"),
        ("1/3", "0.333333"), ("0.1\\overline{6}", "1/6"), ("25/11", "2.\\overline{27}"), ("\\pi", "3.14159265"), ("12", "12 apples"), ("5\\text{ cm}", "5"),
        ("5 \\text{ cm}^2", "5 \\text{ square centimeters}"), ("x=5", "5"), ("5", "x = 5"),
        ("y=2x+3", "y-2x=3"), ("2x+y=3", "4x+2y=6"), ("(1,2)", "\\left( 1, 2 \\right)"),
        ("1,2", "2 \\text{ and } 1"), ("1,2", "\\{2, 1\\}"), ("\\{1,2\\}", "\\{2,1\\}"),
        ("3\\pm\\sqrt2", "3-\\sqrt{2}, 3+\\sqrt{2}"), ("(2,3]", "(2, 3]"),
        ("(-\\infty,1)\\cup(2,3)", "(2,3)\\cup(-\\infty,1)"), ("x \\in [1,2]", "[1,2]"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}"),
        ("1011_2", "1011_{2}"), ("1011_2", "01011_{\\text{two}}"), ("7_{10}", "7"),
        ("\\text{Monday}", "monday"), ("\\text{(A)}", "A"), ("\\text{A}", "\\textbf{(A)}"), ("A", "\\text{A}"), ("\\emptyset", "\\{\\}"),
        ("1.2\\times10^3", "1200"), ("9^{9^{9}}", "9^{9^{9}}"), ("2:3", "2 : 3"),
        ("-5", "－５"), ("12345", "12 345"), ("10\\text{ m/s}", "10 m/s"), ("9.8 m/s^2", "9.8\\text{ m/s}^2"),
        ("101_2", "101 \\text{ (base 2)}"), ("101_2", "101\\text{ base }2"), ("3:45 p.m.", "\\text{3:45 PM}"),
    ],
)  # fmt: skip
def test_equal_answers_are_correct(gold: str, answer: str):
    assert status(gold, f"\\boxed{{{answer}}}") == "correct"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        # math-verify calls these equal
        ("\\frac{10^{40}}{3}", "\\frac{10^{40}+1}{3}"),
        ("100000000000000000000000/3", "100000000000000000000001/3"),
        ("1-1/e", "1+1/e"), ("1011_2", "1011_3"), ("1011_2", "1011"), ("12_8", "10"),
        ("12_8", "12"), ("5\\text{ cm}^2", "5\\text{ cm}^3"), ("5\\text{ cm}^2", "25"),
        ("(1,2)", "\\{1,2\\}"), ("\\{1,2\\}", "(1,2)"), ("1,2", "(2,1)"), ("50\\%", "50"),
        ("50", "50\\%"), ("0.5", "0.5\\%"), ("A", "a"), ("\\text{A}", "a"), ("b", "B"),
        # and these are plainly different
        ("(1,2)", "[1,2]"), ("(1,2]", "[1,2)"), ("(1,2)", "(2,1)"), ("12", "13"), ("12", "-12"),
        ("1/3", "0.3333"), ("1/3", "0.\\overline{4}"), ("1/3", "0.33333334"), ("x=1", "y=2"), ("10", "2x=10"),
        ("5 \\text{ hours}", "5 \\text{ minutes}"), ("x+1", "x-1"), ("\\sqrt{2}", "1.41"),
        ("\\{1,2\\}", "\\{1,2,3\\}"), ("1,1,2", "1,2,2"), ("\\text{even}", "odd"),
        ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("12", "9^{9^9}"), ("12", "1/0"), ("\\text{Monday}", "12"), ("x^2", "x_2"),
        ("101", "101 \\text{ (base 2)}"), ("101", "(101)_2"), ("3", "3^1_2"), ("10 m/s", "10 m/s^2"),
        ("12345", "12 346"), ("12", "1 2"), ("3:45 PM", "3:45 AM"),
    ],
)  # fmt: skip
def test_different_answers_are_never_correct(gold: str, answer: str):
    assert status(gold, f"\\boxed{{{answer}}}") == "wrong"


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("\\ln 4", "2\\ln 2", "correct"), ("\\ln 4", "3\\ln 2", "wrong"),
        ("\\sin^2 x", "1-\\cos^2 x", "correct"),
        ("\\frac{\\sqrt{2+\\sqrt3}}{2}", "\\frac{\\sqrt6+\\sqrt2}{4}", "correct"),
        ("e^{2x}", "e^x \\cdot e^x", "correct"), ("e^{i\\pi/3}", "\\cos 60^\\circ+i\\sin 60^\\circ", "correct"), ("e^{2x}", "e^{x^2}", "wrong"),
        ("\\sin A", "\\sin a", "wrong"), ("\\ln(10^{-20}+1)", "\\ln(10^{-21}+1)", "wrong"),
        ("\\sqrt{x^3}", "x^{3/2}", "correct"), ("\\sqrt{x^2}", "x", "wrong"),
        ("\\ln x", "\\ln|x|", "wrong"), ("\\sqrt{(x-10)^2}", "10-x", "wrong"),
        ("\\sqrt{10^{60}+1}", "10^{30}", "wrong"), ("\\sqrt{10^{1000}+1}", "10^{500}", "wrong"),
        ("\\sin(10^{-50})", "10^{-50}", "wrong"), ("\\sin 70^\\circ", "\\cos(20°)", "correct"),
        ("\\tan 45^\\circ", "1", "correct"), ("\\sin 30^\\circ", "\\sin 30", "wrong"),
    ],
)  # fmt: skip
def test_what_exact_arithmetic_leaves_open_is_decided_symbolically(
    gold: str, answer: str, expected: str
):
    verdict = judge(parse_spec({"kind": "math", "answer": gold}), f"\\boxed{{{answer}}}")
    assert (verdict.status, verdict.evidence["method"]) == (expected, "symbolic")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("The answer is 12.", "correct"), ("= 12", "correct"), ("#### 12", "correct"),
        ("3*4 = 12", "correct"), ("So 3 * 4 = 12", "correct"), ("12", "correct"),
        ("He buys 3 and 4 more,\nso he has 12 (twelve) apples.", "correct"),
        ("The answer is 12 apples because 3*4=12.", "correct"),
        ("The answer is that he has 12 apples.", "correct"),
        ("**Answer:** $12$", "correct"), ("The answer is:\n\n\\[12\\]\n", "correct"),
        ("<think>maybe 13</think>The answer is 12.", "correct"), ("So, 3 x $4 = $12.", "correct"),
        ("The answer is a dozen, 12.", "correct"), ("The answer is:\n```\n12\n```", "correct"),
        ("A: 12", "correct"), ("The answer is 12 (or 13).", "malformed"),
        ("The answer is 12. To repeat: the answer is 12.0.", "correct"),
        ("The answer is 13.", "wrong"), ("12 and then 13", "wrong"),
        ("The answer is not 12.", "malformed"), ("The answer is 12 or 13.", "malformed"),
        ("\\boxed{12} or \\boxed{13}", "malformed"), ("#### 12\n#### 13", "malformed"),
        ("The answer is 12. No, the answer is 13.", "malformed"), ("\\boxed{12", "malformed"),
        ("The answer is between 11 and 13 apples for all", "malformed"),
        ("", "malformed"), ("I do not know", "malformed"), ("<think>12", "malformed"),
    ],
)  # fmt: skip
def test_prose_is_read_as_a_person_reads_it(completion: str, expected: str):
    assert status("12", completion) == expected


@pytest.mark.parametrize(
    ("gold", "completion"),
    [
        ("36", "9 x 4 = 36"), ("36", "9x4=36"), ("36", "9 X 4 = 36"), ("36", "9 × 4 = 36"),
        ("36", "The answer is 9 x 4 = 36."), ("36", "The answer is 9 * 4 = 36."),
        ("36", "The answer is $9 x $4 = $36."), ("36", "\\boxed{9 \\times 4 = 36}"),
        ("36", "\\boxed{9\\text{ x }4 = 36}"), ("72", "#### 9 x 4 x 2 = 72"), ("36", "36 = 9 x 4"),
        ("14", "2 x (3 + 4) = 14"), ("14", "(3 + 4) x 2 = 14"), ("1.5", "0.5 x 3 = 1.5"),
        ("72", "9 x 4 x 2 = 36 x 2 = 72"), ("36", "The answer is that he has 9 x 4 = 36 apples."),
        ("8", "The answer is 5 apples + 3 apples = 8 apples."),
        ("36", "The answer is 9 apples x $4 per apple = $36."),
        ("5", "The answer is therefore 3 x 3 - 4 = 9 - 4 = 5."),
    ],
)  # fmt: skip
def test_the_result_of_working_is_the_answer(gold: str, completion: str):
    assert status(gold, completion) == "correct"
    assert status(f"{gold}1", completion) == "wrong"


@pytest.mark.parametrize(
    ("gold", "completion", "expected"),
    [
        ("36", "The answer is not 9 x 4 = 36.", "malformed"),
        ("36", "The answer is 12 or 9 x 4 = 36.", "malformed"),
        ("36", "The answer is 9 x 4 = 36 or 9 x 5 = 45.", "malformed"),
        ("36", "The answer is 9 x 4 = 36. No, the answer is 9 x 5 = 45.", "malformed"),
        ("36", "\\boxed{9 x 4 = 36} \\boxed{9 x 5 = 45}", "malformed"),
        ("36", "9 x y = 36", "wrong"), ("4", "9 x = 4", "wrong"), ("12", "2xy = 12", "wrong"),
        ("12", "3x = 12", "wrong"), ("7", "2x + 3 = 7", "wrong"), ("9", "36 = 9 x 4", "wrong"),
        ("8", "5 apples + 3 pears = 9 fruits", "wrong"), ("x + 4 = 36", "9 x 4 = 36", "wrong"),
        ("2x + 3 = 7", "2 x + 3 = 7", "correct"), ("x = 2", "2x + 3 = 7", "correct"),
        ("y = 2x + 3", "y - 2x = 3", "correct"), ("x = 5", "5", "correct"),
    ],
)  # fmt: skip
def test_an_equation_that_is_no_working_stays_an_equation(
    gold: str, completion: str, expected: str
):
    assert status(gold, completion) == expected


def test_boxes_that_together_are_the_list_asked_for_are_no_hedge():
    assert status("2, 3", "x=\\boxed{3} or x=\\boxed{2}") == "correct"
    assert status("2, 3", "x=\\boxed{3} or x=\\boxed{4}") == "wrong"
    assert status("(2, 3)", "x=\\boxed{2}, y=\\boxed{3}") == "malformed"


def test_evidence_shows_what_was_compared_and_is_capped():
    verdict = judge(parse_spec({"kind": "math", "answer": "12"}), "\\boxed{" + "1" * 10_000 + "}")
    assert verdict.evidence["gold"] == "12"
    assert verdict.evidence["found"] == "boxed"
    assert len(json.dumps(dict(verdict.evidence))) < 2_000


def test_a_named_extraction_is_the_only_place_looked_at():
    spec = parse_spec({"kind": "math", "answer": "12", "extract": {"kind": "boxed"}})
    assert judge(spec, "The answer is 12.").status == "malformed"
    spec = parse_spec({"kind": "math", "answer": "12", "extract": {"kind": "text"}})
    assert judge(spec, " 12 ").status == "correct"
    assert judge(spec, "It must be 12").status == "wrong"
    spec = parse_spec(
        {"kind": "math", "answer": "12", "extract": {"kind": "json_path", "path": "$.n"}}
    )
    assert judge(spec, '{"n": 12.0}').status == "correct"


@pytest.mark.skipif(not GSM8K.exists(), reason=f"{GSM8K} is absent")
def test_gsm8k_solutions_are_correct_and_shifted_ones_wrong():
    with GSM8K.open() as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        gold = row["answer"].rpartition("####")[2].strip()
        shifted = str(int(gold.replace(",", "")) + 1)
        for form in ("{}", "The answer is {}.", "So \\boxed{{{}}}", "It is ${} in all."):
            assert status(gold, form.format(gold)) == "correct", row
            assert status(gold, form.format(shifted)) == "wrong", row
        assert status(gold, row["answer"]) == "correct", row


def test_labelled_pairs_of_every_family_are_judged_without_a_mistake():
    pairs = list(math_pairs.pairs(3_000, seed=5))
    assert len({pair.family for pair in pairs}) >= 20
    mistakes = [p for p in pairs if (status(p.gold, p.completion) == "correct") != p.right]
    assert mistakes == []


def written(value: Fraction, rng: random.Random) -> str:
    """One of the ways in which MATH solutions write a rational number."""
    n, d = value.numerator, value.denominator
    forms = [f"\\frac{{{n}}}{{{d}}}", f"\\dfrac{{{2 * n}}}{{{2 * d}}}", f"{n}/{d}", f"${n}/{d}$"]
    if d == 1:
        forms += [str(n), f"{n}.0", f"x = {n}", f"{n:,}", f"{n} \\text{{ apples}}"]
    if (100 * value).denominator == 1:
        forms += [f"{float(value):.2f}", f"{100 * n // d}\\%"]
    return rng.choice(forms)


def test_generated_pairs_of_rationals_are_judged_without_a_mistake():
    rng = random.Random(7)
    for _ in range(1_500):
        left = Fraction(rng.randint(-400, 400), rng.choice((1, 1, 2, 3, 4, 5, 7, 20, 100)))
        right = left if rng.random() < 0.5 else left + Fraction(1, rng.randint(1, 300))
        gold, answer = written(left, rng), written(right, rng)
        expected = "correct" if left == right else "wrong"
        assert status(gold, f"\\boxed{{{answer}}}") == expected, (gold, answer)


def test_generated_surds_are_judged_as_floats_say():
    rng = random.Random(11)
    for _ in range(500):
        a, b, n, d = rng.randint(1, 9), rng.randint(1, 9), rng.randint(2, 50), rng.randint(1, 9)
        gold = parse(f"\\frac{{{a}+{b}\\sqrt{{{n}}}}}{{{d}}}")
        k = rng.randint(1, 3)
        answer = parse(f"\\frac{{{a * k}}}{{{d * k}}}+\\frac{{\\sqrt{{{n * b * b}}}}}{{{d}}}")
        other = parse(f"\\frac{{{a}+{b}\\sqrt{{{n + 1}}}}}{{{d}}}")
        assert equal(gold, answer) is True
        assert equal(gold, other) is False
        left, right = approximate(gold), approximate(answer)
        assert left is not None
        assert right is not None
        assert left == pytest.approx(right)


EXPRESSIONS = st.recursive(
    st.one_of(st.integers(0, 20).map(str), st.sampled_from(["x", "y", "\\pi", "i", "\\sqrt{6}"])),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda p: f"({''.join(p)})"),
        inner.map(lambda a: f"\\frac{{{a}}}{{7}}"),
        inner.map(lambda a: f"({a})^2"),
        inner.map(lambda a: f"-{{{a}}}"),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, EXPRESSIONS)
@settings(deadline=None)
def test_exact_arithmetic_keeps_the_laws_of_a_commutative_ring(left: str, right: str):
    a, b = parse(left), parse(right)
    assert equal(parse(f"({left})({right})"), parse(f"({right})*({left})"))
    assert equal(parse(f"({left})+({right})"), parse(f"{{{right}}}+{{{left}}}"))
    assert equal((a + b) * (a + b), parse(f"({left})^2+2({left})({right})+({right})^2"))
    assert equal(a, a + parse("1")) is False


@given(EXPRESSIONS)
@settings(deadline=None)
def test_an_answer_equals_itself_however_it_is_dressed(expression: str):
    for dressed in (f"${expression}$", f"\\left({expression}\\right)", f"x = {expression}"):
        assert status(expression, f"\\boxed{{{dressed}}}") == "correct"
