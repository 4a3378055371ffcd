"""CSV of pairings: one row for each endpoint, one row for a pairing without any."""

from __future__ import annotations

import csv
import io

from leakaudit.report.base import Measured
from leakaudit.report.model import Report
from leakaudit.report.pairings import Control, Endpoint, Pairing

__all__ = ["COLUMNS", "csv_text"]

_PAIRING = ("protocol", "defense", "attack", "family", "status", "adaptive", "repeats")
_CONTROLS = ("positive", "negative", "planted")
_NUMBERS = (
    "leakage", "low", "high", "limit", "patients", "q05", "q25", "median", "q75", "q95", "worst", "worst_bound", "worst_shuffled",
    "above_patient_max", "above_low", "above_high", "chance", "anchor", "attack_seeds", "seed_spread", "p", "p_adjusted", "p_floor",
    "blind", "blind_low", "blind_high",
)  # fmt: skip

_TRAINED = ("rounds", "batch_size", "local_steps", "local_epochs")

COLUMNS = (
    *_PAIRING, "endpoint", "kind", "endpoint_status", "channel", "seat", "level", "round", *_NUMBERS,
    *(f"{name}{part}" for name in _CONTROLS for part in ("", "_low", "_high", "_passed")),
    "confounded", "chance_name", "scope", "missing_because", "reasons", *_TRAINED,
)  # fmt: skip
"""Columns in order. `round`: empty for the last messages. The last four say how the protocol trained. `above_...`: share
of patients above patient_max. `p...`: permutation test over exchanged evidence. The interval of the negative control
has level 99.9 %, all others 95 %."""


def _text(value: str | None) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    text = value or ""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _number(value: float | str | None) -> str:
    """Return a number, or words in the place of a small count of patients."""
    return "" if value is None else value if isinstance(value, str) else repr(value)


def _word(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


def _bounded(part: Measured | None) -> list[float | str | None]:
    """Return a value and its interval; what is missing is None."""
    if part is None:
        return [None, None, None]
    return [part.value, *(part.ci or (None, None))]


def _numbers(endpoint: Endpoint) -> list[float | str | None]:
    """Return the numbers of an endpoint in the order of their columns."""
    leakage, test = endpoint.leakage, endpoint.controls.evidence_shuffle
    q, worst = leakage.quantiles, leakage.worst
    return [
        *_bounded(leakage), endpoint.limit, leakage.patients,
        *([q.low, q.quarter, q.median, q.three_quarters, q.high] if q else [None] * 5),
        *([worst.value, worst.bound, worst.shuffled] if worst else [None] * 3),
        *_bounded(leakage.above), leakage.chance, leakage.anchor, leakage.attack_seeds, leakage.seed_spread,
        *([test.p, test.adjusted, test.floor] if test else [None] * 3), *_bounded(endpoint.blind),
    ]  # fmt: skip


def _trained(report: Report) -> dict[str, list[str]]:
    """Return how each protocol trained, in the order of the columns."""
    return {t.protocol: [_number(getattr(t, name)) for name in _TRAINED] for t in report.protocols}


def _row(pairing: Pairing, endpoint: Endpoint | None, trained: list[str]) -> list[str]:
    names = (pairing.protocol, pairing.defense, pairing.attack, pairing.family, pairing.status)
    head = [*[_text(t) for t in names], _word(pairing.adaptive), str(pairing.repeats)]
    reasons = _text("; ".join(pairing.reasons))
    if endpoint is None:
        return [*head, *[""] * (len(COLUMNS) - len(head) - 1 - len(trained)), reasons, *trained]
    taken = None if endpoint.round is None else str(endpoint.round)
    place = (endpoint.name, endpoint.kind, endpoint.status, endpoint.channel, endpoint.seat, endpoint.level, taken)
    made: list[Control | None] = [getattr(endpoint.controls, name) for name in _CONTROLS]
    controls = [cell for c in made for cell in (*map(_number, _bounded(c)), _word(c.passed if c else None))]
    leakage = endpoint.leakage
    last = [_text(t) for t in (leakage.chance_name, leakage.scope, leakage.reason)]
    return [
        *head,
        *map(_text, place),
        *map(_number, _numbers(endpoint)),
        *controls,
        _word(endpoint.confounded),
        *last,
        reasons,
        *trained,
    ]


def csv_text(report: Report) -> str:
    """Return the pairings as CSV (RFC 4180), long form; missing numbers are empty and never NaN."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    trained, unknown = _trained(report), [""] * len(_TRAINED)
    for pairing in report.pairings:
        endpoints: list[Endpoint | None] = [*pairing.endpoints] or [None]
        writer.writerows(_row(pairing, endpoint, trained.get(pairing.protocol, unknown)) for endpoint in endpoints)
    return out.getvalue()
