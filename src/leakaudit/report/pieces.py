"""Small pieces of HTML that occur thousands of times in a page, escaped here and not by a macro, for speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from leakaudit.report.base import Measured
from leakaudit.report.pairings import Endpoint
from leakaudit.report.plots import icon_id
from leakaudit.report.words import number

__all__ = ["ci", "defense", "icon", "patient_values", "status", "value"]


@lru_cache
def icon(word: str) -> Markup:
    """Return the shape of a status."""
    name = icon_id(word)
    return Markup('<svg class="icon s-{}" viewBox="0 0 20 20" aria-hidden="true"><use href="#{}"/></svg>').format(name[2:], name)


@lru_cache
def status(word: str) -> Markup:
    """Return a status as shape and word."""
    return Markup('<span class="status s-{}">{}{}</span>').format(icon_id(word)[2:], icon(word), word)


def ci(bounds: Sequence[float] | None) -> str:
    """Return an interval as text."""
    return f"{number(bounds[0])} to {number(bounds[1])}" if bounds else "none"


def value(part: Measured | None) -> Markup:
    """Return a value with its interval; a missing one gives its reason."""
    if part is None or part.value is None:
        why = f": {part.reason}" if part is not None else ""
        return Markup(f'<span class="missing">not available{escape(why)}</span>')
    interval = f' <span class="ci">({ci(part.ci)})</span>' if part.ci else ""
    return Markup(number(part.value) + interval)


def defense(name: str) -> str:
    """Return a defense's label as a reader says it."""
    return "no defense" if name == "none" else name


def patient_values(endpoint: Endpoint) -> Markup:
    """Return the table twin of a strip: pseudonym and leakage, the worst first."""
    ordered = sorted(endpoint.leakage.per_patient, key=lambda p: -p.value)
    return Markup("".join(f"<span>{p.patient} {number(p.value)}</span> " for p in ordered))
