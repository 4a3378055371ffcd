"""CSV of pairings: one row for each endpoint, one row for a pairing without any."""

from __future__ import annotations

import csv
import io

from leakaudit.report.model import Report
from leakaudit.report.pairings import Endpoint, Pairing

__all__ = ["COLUMNS", "csv_text"]

COLUMNS = (
    "protocol", "defense", "attack", "family", "status", "adaptive", "repeats", "endpoint", "endpoint_status", "channel",
    "seat", "level", "leakage", "low", "high", "limit", "patients", "worst", "worst_bound", "chance", "chance_name", "anchor",
    "scope", "missing_because", "reasons",
)  # fmt: skip


def _text(value: str | None) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    text = value or ""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _row(pairing: Pairing, endpoint: Endpoint | None) -> list[str]:
    adaptive = "" if pairing.adaptive is None else str(pairing.adaptive).lower()
    names = [_text(t) for t in (pairing.protocol, pairing.defense, pairing.attack, pairing.family, pairing.status)]
    head = [*names, adaptive, str(pairing.repeats)]
    reasons = _text("; ".join(pairing.reasons))
    if endpoint is None:
        return [*head, *[""] * (len(COLUMNS) - len(head) - 1), reasons]
    leakage = endpoint.leakage
    low, high = leakage.ci or (None, None)
    worst, bound = (leakage.worst.value, leakage.worst.bound) if leakage.worst else (None, None)
    return [
        *head, *[_text(t) for t in (endpoint.name, endpoint.status, endpoint.channel, endpoint.seat, endpoint.level)],
        *[_number(v) for v in (leakage.value, low, high, endpoint.limit)], str(leakage.patients),
        *[_number(v) for v in (worst, bound, leakage.chance)], _text(leakage.chance_name), _number(leakage.anchor),
        _text(leakage.scope), _text(leakage.reason), reasons,
    ]  # fmt: skip


def csv_text(report: Report) -> str:
    """Return the pairings as CSV (RFC 4180), long form; missing numbers are empty and never NaN."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for pairing in report.pairings:
        endpoints: list[Endpoint | None] = [*pairing.endpoints] or [None]
        writer.writerows(_row(pairing, endpoint) for endpoint in endpoints)
    return out.getvalue()
