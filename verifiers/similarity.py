"""The judge of how alike two texts are: edit distance, BLEU, GLEU, METEOR, ROUGE.

rapidfuzz and nltk do the counting. Every metric takes time about linear in the texts, but
the longest common subsequence of ROUGE-L and fuzzy_match, which rapidfuzz finds 64 columns
at a time. nltk's data is not used: words are runs of letters and digits, METEOR knows equal
words and equal stems, no synonyms.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from verifiers import templates
from verifiers.grader_specs import Metric, TextSimilaritySpec
from verifiers.verdict import Verdict, clip

MAX_CHARACTERS = 100_000


def judge(spec: TextSimilaritySpec, completion: str) -> Verdict:
    """The metric as the score; `malformed` when the completion lacks what is compared."""
    try:
        text, reference = templates.compared(spec.input, spec.reference, spec.item, completion)
    except templates.SampleError as error:
        return Verdict(0.0, "malformed", {"reason": clip(str(error))})
    if max(len(text), len(reference)) > MAX_CHARACTERS:
        reason = f"a text of more than {MAX_CHARACTERS} characters"
        return Verdict(0.0, "malformed", {"reason": reason})
    score = similarity(spec.evaluation_metric, text, reference)
    evidence = {"extracted": clip(text), "gold": clip(reference)}
    status = "correct" if score >= spec.pass_threshold else "wrong"
    return Verdict(score, status, evidence | {"metric": spec.evaluation_metric})


def similarity(metric: Metric, text: str, reference: str) -> float:
    """How alike two texts are, in [0, 1]; two empty texts are."""
    if metric == "fuzzy_match":
        return fuzz.ratio(text, reference) / 100
    if metric in ("bleu", "gleu", "meteor"):
        said, gold = _tokens(text, r"\w+|[^\w\s]+"), _tokens(reference, r"\w+|[^\w\s]+")
    else:
        said, gold = _tokens(text.casefold(), r"\w+"), _tokens(reference.casefold(), r"\w+")
    if not said or not gold:
        return float(said == gold)
    match metric:
        case "bleu":
            score = _bleu(said, gold)
        case "gleu":
            score = _nltk("translate.gleu_score").sentence_gleu([gold], said)
        case "meteor":
            meteor = _nltk("translate.meteor_score").single_meteor_score
            score = meteor(gold, said, wordnet=_NoSynonyms())
        case "rouge_l":
            score = _f1(LCSseq.similarity(said, gold), len(said), len(gold))
        case _:
            score = _rouge_n(said, gold, int(metric.removeprefix("rouge_")))
    return min(1.0, max(0.0, float(score)))


def prepare() -> None:
    """Import nltk, so that no completion's time goes into it."""
    for module in ("translate.bleu_score", "translate.gleu_score", "translate.meteor_score"):
        _nltk(module)


def _nltk(module: str) -> Any:
    """A module of nltk, which has no types; it is imported where it is used, for it is large."""
    return importlib.import_module(f"nltk.{module}")


def _tokens(text: str, pattern: str) -> list[str]:
    return _nltk("tokenize").regexp_tokenize(text, pattern)


def _bleu(said: list[str], gold: list[str]) -> float:
    """Sentence BLEU as sacrebleu computes it: up to 4-grams, zero counts smoothed (NIST)."""
    bleu = _nltk("translate.bleu_score")
    smoothing = bleu.SmoothingFunction().method3
    return bleu.sentence_bleu([gold], said, smoothing_function=smoothing, auto_reweigh=True)


class _NoSynonyms:
    """Stands for WordNet."""

    def synsets(self, word: str) -> list[Any]:
        """No sets of synonyms of a word."""
        del word
        return []


def _rouge_n(said: list[str], gold: list[str], n: int) -> float:
    ngrams = _nltk("util").ngrams
    mine: Counter[tuple[str, ...]] = Counter(ngrams(said, n))
    theirs: Counter[tuple[str, ...]] = Counter(ngrams(gold, n))
    return _f1((mine & theirs).total(), mine.total(), theirs.total())


def _f1(common: int, mine: int, theirs: int) -> float:
    return 2 * common / (mine + theirs) if common else 0.0
