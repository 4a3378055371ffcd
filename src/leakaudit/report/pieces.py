"""Small pieces of HTML that occur thousands of times in a page, escaped here and not by a macro, for speed."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup

from leakaudit.report.base import Measured
from leakaudit.report.phrases import interval, number
from leakaudit.report.svg import icon_id

__all__ = ["CLAIM_ICONS", "RESULTS", "claim", "icon", "marked", "missing", "result", "status", "value"]

RESULTS: dict[bool | None, tuple[str, str]] = {True: ("PASS", "met"), False: ("FAIL", "not met"), None: ("REVIEW", "not decided")}
"""Whether a control was met: the shape it shares with a status, and the word."""

CLAIM_ICONS = {"REFUTED": "FAIL", "NOT REFUTED": "N/A", "UNTESTABLE": "REVIEW"}
"""The shape of a claim word. NOT REFUTED has no check mark: an attack never proves a claim."""


@lru_cache
def icon(word: str) -> Markup:
    """Return the shape of a status."""
    name = icon_id(word)
    return Markup('<svg class="icon s-{}" viewBox="0 0 20 20" aria-hidden="true"><use href="#{}"/></svg>').format(name[2:], name)


@lru_cache
def marked(shape: str, word: str) -> Markup:
    """Return a word with the shape and color of a status."""
    # As short as it can be, for it occurs everywhere: the shape takes color from the word and its view box from the symbol.
    drawn = '<span class="status s-{}"><svg class="icon" aria-hidden="true"><use href="#{}"/></svg>{}</span>'
    return Markup(drawn).format(icon_id(shape)[2:], icon_id(shape), word)


def status(word: str) -> Markup:
    """Return a status as shape and word."""
    return marked(word, word)


def result(passed: bool | None) -> Markup:
    """Return whether a control was met, as shape and word."""
    return marked(*RESULTS[passed])


def claim(word: str) -> Markup:
    """Return a claim word with its shape."""
    return marked(CLAIM_ICONS[word], word)


def missing(text: str) -> Markup:
    """Return what stands in the place of a number that is not there."""
    return Markup('<span class="missing">{}</span>').format(text)


def value(part: Measured | None, digits: int = 2, absent: str = "not available") -> Markup:
    """Return a value with its interval; a missing one gives its reason.

    Args:
        part: The value.
        digits: Digits after the point.
        absent: What a missing value is called, before its reason.
    """
    if part is None or part.value is None:
        return missing(f"{absent}: {part.reason}" if part is not None else absent)
    shown = f' <span class="ci">({interval(part.ci, digits)})</span>' if part.ci else ""
    return Markup(number(part.value, digits) + shown)
