"""One spelling for mathematical notation: LaTeX, Unicode and plain text alike.

`normalize` rewrites delimiters, spacing commands and synonyms until an answer is written
one way; `split`, `enclosed` and `unwrap` find its outermost structure. Strings in,
strings out: nothing is evaluated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
CLOSING = {close: opening for opening, close in OPENING.items()}

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-",
    "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "⁄": "/", "∕": "/",
    "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "≈": r"\approx ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "°": r"^\circ ", "“": '"', "”": '"', "’": "'",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "£": "", "€": "", "¥": "", "₹": "",
}  # fmt: skip
_FULL_WIDTH = {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
_TRANSLATION = str.maketrans(_FULL_WIDTH | _CHARACTERS)

_CIRCLE = r"(?:\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|\\degree(?![a-zA-Z]))"
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:\\[,!;: ]|\{,\}|\\,)+(?=\d{3}(?!\d))", ""),  # 1\,000 and 1{,}000
        (r"(?<!\\)\\!", ""),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits)(?![a-zA-Z])", ""),
        (r"(?<!\\)\\(?:[,;: ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|~", " "),
        (r"\\\$|\$|(?<!\\)\\[()\[\]]", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (
            r"\\(?:text|mathrm|mathbf|mathit|mathsf|textbf|textit|textrm|textnormal|mbox|operatorname)"
            r"\*?\s*\{",
            r"\\text{",
        ),
        (r"\\(?:cdot|times|ast)(?![a-zA-Z])", "*"),
        (r"(?<=[\w)}])\s*\*\*(?=\s*[-({\w])", "^"),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\(?:leq|leqslant)(?![a-zA-Z])|<=|=<", r"\\le "),
        (r"\\(?:geq|geqslant)(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\(?:neq)(?![a-zA-Z])|!=|<>", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\\(?:lparen|langle)(?![a-zA-Z])", "("),
        (r"\\(?:rparen|rangle)(?![a-zA-Z])", ")"),
        (_CIRCLE + r"\s*(?:\\text\{\s*([CF])\s*\}|([CF])(?![a-zA-Z]))", r" \\text{degree\1\2}"),
        (_CIRCLE + r"|\\text\{\s*degrees?\s*\}", ""),
        (r"\\%|\\text\{\s*\\?%\s*\}|(?<=[\d}])\s*(?:percent|\\text\{\s*percent\s*\})", "%"),
        (r"\\(?:mid|vert|lvert|rvert)(?![a-zA-Z])", "|"),
        (r"(?<![\\a-zA-Z])(sqrt|pi|infty|sin|cos|tan|ln|log|exp)(?![a-zA-Z])", r"\\\1 "),
        (r"\\(?:infinity)(?![a-zA-Z])", r"\\infty "),
        (r"(?<=[\d)}+-])\s*\\text\{([ei])\}|\\text\{([ei])\}(?=\^)", r"\1\2"),
        (r"\\(sin|cos|tan)\s*\^\s*\{\s*-1\s*\}", r"\\arc\1 "),
        (r"\\pmod\s*(\d+|[a-zA-Z])", r"\\pmod{\1}"),
        (r"\\overline\s*\{([A-Z]{2})\}|\\(?:angle|triangle)\s*(?=[A-Z])", r"\1"),
        (r"(?<![\w)}])\+\s*(?=\\infty)", ""),
        (r"(?<=.)\s*[,;]\s*[a-zA-Z]\s*\\in\s*\\mathbb\s*\{?[ZN]\}?\s*$", ""),
        (r"\s+", " "),
    )
)
_ANGLE = re.compile(  # within a function, where radians would be meant without it
    r"(\\?(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*\{?\d\}?)?\s*(?:\\left)?[({]?\s*)(\d+(?:\.\d+)?)\s*"
    + rf"(?:°|{_CIRCLE})"
)
_GROUPS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SWISS = re.compile(r"(?<![\w.'])(\d{1,3})((?:'\d{3})+)(?![\d'])")
_EUROPEAN = re.compile(r"[-+]?\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")
_DOLLARS = re.compile(r"\s*([-+−]?)\s*\\?\$\s?(\d[\d,]*(?:\.\d+)?|\.\d+)\s*\.?\s*")
_OUTWARD = re.compile(r"([\[\]])([^\[\]]*,[^\[\]]*)([\[\]])")
_ABOUT = re.compile(
    r"(?:\\text\{\s*)?(?:about|approximately|approx\.?|roughly|exactly|total:?|answer:?|ans:|a:)\s*\}?\s*"
    r"(?=[-\d\\])",
    re.IGNORECASE,
)
_CURRENCY = re.compile(r"(?:USD|US|EUR|GBP|CHF|INR|Rs\.?)\s*(?=\d)")
_ELLIPSIS = r"\s*(?:\.{3}|…|\\[lc]?dots(?![a-zA-Z]))"
_DOTTED = re.compile(r"\\dot\s*\{?(\d)\}?(?:(\d{0,30})\\dot\s*\{?(\d)\}?)?")
_RECURRING = re.compile(  # 0.1666... and 0.142857142857...
    rf"(\d{{0,30}}\.\d{{0,30}}?)(?:(\d{{1,15}}?)\2{{2,20}}|(\d{{3,15}}?)\3{{1,20}}){_ELLIPSIS}"
)
_REPEATING = re.compile(r"(\d{0,30})\.(\d{0,30})\\(?:overline|bar)\s*\{?(\d{1,30})\}?")
_LETTER = re.compile(r"\\text\{\s*\(?\s*([A-Za-z])\s*\)?\s*\}")
_PLAIN_TEXT = re.compile(
    r"\\text\{\s*((?:\\?\$\s*)?[-+]?[\d.,/ ]*\d\s*\\?%?"
    r"|[A-Z](?:\s*,\s*(?:and\s+)?[A-Z])+|\d[\d.,]*(?:\s+[a-zA-Z]{2,})+)\s*\}"
)
TEXT = re.compile(r"\\text\{([^{}]*)\}")
"""Words within a formula, once they are normalised."""
_TO = re.compile(r"(\d+)\s*(?:\\text\{\s*)?\bto\b(?:\s*\})?\s*(\d+)")
_SYNONYMS = {
    **dict.fromkeys(("infinity", "positive infinity", r"+\infty"), r"\infty"),
    **dict.fromkeys(("-infinity", "negative infinity", "minus infinity"), r"-\infty"),
    **dict.fromkeys(("empty set", "the empty set", "null set", "∅"), r"\emptyset"),
    **dict.fromkeys(
        (
            *("all real numbers", "all reals", "the real numbers", "the set of all real numbers"),
            *("all real x", r"\mathbb{r}", r"\mathbb r", r"\r"),
        ),
        r"(-\infty,\infty)",
    ),
    **dict.fromkeys(("does not exist", "dne"), "does not exist"),
    **dict.fromkeys(
        ("no solution", "no solutions", "there is no solution", "there are no solutions"),
        "no solution",
    ),
}
_BOXED = re.compile(r"^\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*$", re.DOTALL)
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)


def normalize(text: str) -> str:
    """The one spelling of an answer; an empty string when nothing is left."""
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(SUPERSCRIPTS)}}}", text)
    if dollars := _DOLLARS.fullmatch(text):
        text = rf"{dollars[1]}{dollars[2]} \text{{dollars}}"
    text = _ANGLE.sub(r"\1(\2*\\pi/180)", text)
    text = text.translate(_TRANSLATION).strip(" \t\r\n*\"'`")
    while (boxed := _BOXED.match(text)) and balanced(boxed[1]):
        text = boxed[1]
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    if "dot" in text or "..." in text or "…" in text:
        text = _DOTTED.sub(r"\\overline{\1\2\3}", text)
        text = _RECURRING.sub(r"\1\\overline{\2\3}", text)
    text = _REPEATING.sub(_fraction, text)
    text = text.strip(" *\"'`")
    text = text.rstrip(".,;: ")
    if letter := _LETTER.fullmatch(text):
        return letter[1]
    if plain := _PLAIN_TEXT.fullmatch(text):
        text = plain[1].lstrip("\\$ ")
    if _GROUPS.fullmatch(text):  # 12 345
        return text.replace(" ", "")
    text = _SWISS.sub(lambda m: m[1] + m[2].replace("'", ""), text)
    if _EUROPEAN.fullmatch(text):  # 1.234,56
        return text.replace(".", "").replace(",", ".")
    if ratio := _TO.fullmatch(text):
        return f"{ratio[1]}:{ratio[2]}"
    if outward := _OUTWARD.fullmatch(text):  # ]0, 1[
        opening, closing = "[("[outward[1] == "]"], "])"[outward[3] == "["]
        return f"{opening}{outward[2]}{closing}"
    text = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    text = re.sub(r"^(?:\{\}|[=:]|\\approx\b)+\s*", "", _CURRENCY.sub("", text, count=1)).strip()
    return _SYNONYMS.get(" ".join(TEXT.sub(r"\1", text).casefold().split()), text)


def _fraction(decimal: re.Match[str]) -> str:
    """A repeating decimal, 0.1\\overline{6}, as the fraction that it is."""
    fixed, repeated = decimal[1] + decimal[2], decimal[3]
    numerator = int(fixed + repeated) - int(fixed or "0")
    return f"\\frac{{{numerator}}}{{{(10 ** len(repeated) - 1) * 10 ** len(decimal[2])}}}"


def tokens(text: str) -> Iterator[tuple[int, str]]:
    """Positions and tokens; a command like `\\frac` or `\\{` is one token."""
    for match in _TOKEN.finditer(text):
        yield match.start(), match[0]


def balanced(text: str) -> bool:
    """Whether braces nest; parentheses may not, since half-open intervals mix them."""
    depth = 0
    for _, token in tokens(text):
        depth += (token == "{") - (token == "}")
        if depth < 0:
            return False
    return depth == 0


def depth(text: str) -> int:
    """The deepest nesting of any brackets."""
    deepest = level = 0
    for _, token in tokens(text):
        level += (token in OPENING) - (token in CLOSING)
        deepest = max(deepest, level)
    return deepest


def split(text: str, *separators: str) -> list[str]:
    """The parts between separators that stand outside all brackets."""
    parts: list[str] = []
    level = start = 0
    for position, token in tokens(text):
        if token in OPENING:
            level += 1
        elif token in CLOSING:
            level -= 1
        elif level == 0 and token in separators:
            parts.append(text[start:position].strip())
            start = position + len(token)
    parts.append(text[start:].strip())
    return parts


def enclosed(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) when one pair of brackets spans the whole text.

    `(`, `[` may close with `)` or `]`, as intervals do.
    """
    opening = next((o for o in ("\\{", "(", "[", "{") if text.startswith(o)), None)
    if opening is None:
        return None
    level = 0
    for position, token in tokens(text):
        level += (token in OPENING) - (token in CLOSING)
        if level == 0:
            if position + len(token) != len(text):
                return None
            mixed = opening in "([" and token in (")", "]")
            if token != OPENING[opening] and not mixed:
                return None
            return opening, text[len(opening) : position].strip(), token
    return None


def words(text: str) -> list[str]:
    """Runs of two or more letters that are no command: prose, units or a name."""
    return re.findall(r"(?<![\\a-zA-Z])[^\W\d_]{2,}", text.replace("\\text", " "))
