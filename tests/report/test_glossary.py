"""The glossary: every marked word leads to an entry, and no term or abbreviation of the page lacks one."""

from __future__ import annotations

import html
import re

import pytest
from markup import Page

from leakaudit.report.glossary import GLOSSARY, term

STATUSES = {"PASS", "FAIL", "REVIEW", "ERROR", "NA", "A", "B"}
# Names of documents, organizations, formats and units are no terms.
NAMES = {"EDPB", "GDPR", "EU", "AI", "IV", "NIST", "RMF", "MEASURE", "ISO", "IEC", "HIPAA", "SVG", "RDP", "MB", "OK", "NOT"}
TERMS = (
    "accountant", "adaptive", "adversary", "blind baseline", "chance", "channel", "clopper-pearson", "cut",
    "defense", "delta", "dice", "dominated", "endpoint", "epsilon", "fidelity", "full recovery", "hd95", "identity", "interval",
    "leakage", "level", "limit", "median", "membership", "neighbors", "p value", "pairing", "planted", "poisson", "protocol",
    "pseudonym", "psnr", "quantile", "rank-1", "reconstruction", "refuted", "releases", "repeat", "replica", "scope", "seat",
    "ssim", "threshold", "tpr", "unit", "untestable", "utility",
)  # fmt: skip


RARE = ("canary", "confounded", "alarm", "balanced accuracy", "nmi", "planted")


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", " ", page, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", body))


def entries() -> str:
    return " ".join(f"{word} {text}" for word, text in GLOSSARY.values()).lower()


def test_every_marked_word_leads_to_an_entry(page):
    marked = [a["href"] for a in Page(page).having("a") if a.get("class") == "term"]
    assert len(set(marked)) > 20
    ids = {attrs.get("id") for _, attrs in Page(page).tags}
    assert {target.removeprefix("#") for target in marked} <= ids
    assert ids >= {f"g-{key}" for key in GLOSSARY}


def test_an_unknown_term_is_refused():
    with pytest.raises(KeyError):
        term("entropy-of-everything", "entropy")
    assert term("ssim") == '<a class="term" href="#g-ssim">SSIM</a>'


@pytest.mark.parametrize("word", TERMS)
def test_terms_of_the_page_are_explained(page, word):
    outside = page[: page.index('id="glossary"')]
    assert word in text_of(outside).lower(), "no longer on the page: take it from this list"
    assert word in entries()


@pytest.mark.parametrize("word", RARE)
def test_terms_that_other_reports_use_are_explained_too(word):
    assert word in entries()


def test_every_abbreviation_is_explained(page):
    found = set(re.findall(r"(?<![\w#/-])[A-Z][A-Z0-9]+(?![\w/])", text_of(page[: page.index('id="glossary"')])))
    explained = {word.upper() for word in re.findall(r"[\w-]+", entries())}
    assert found - STATUSES - NAMES - explained == set()


def test_entries_are_short_and_end_like_sentences():
    for word, text in GLOSSARY.values():
        assert text.endswith("."), word
        assert len(text) < 300, word
