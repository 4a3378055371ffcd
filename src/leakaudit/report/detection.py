"""How often defenses that watch for tampering raised an alarm, and what was lost by then: rows, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from leakaudit.report.base import Count
from leakaudit.report.facts import Detection
from leakaudit.report.model import Report
from leakaudit.report.pairing_words import worst_endpoint
from leakaudit.report.pairings import Pairing, Strongest
from leakaudit.report.phrases import defense_name, number, percent, plural

__all__ = ["DetectionRow", "detection_lines", "detection_rows", "reading"]

_WIDE = 0.5
"""An interval of a rate that is wider than this is called out."""


@dataclass(frozen=True, slots=True)
class DetectionRow:
    """One line of the table: alarms in honest trainings or under one attack.

    Attributes:
        detection: Alarms, trainings and their rate.
        lost: Batches that had crossed by the alarms, in words; None where there was no alarm.
        leakage: What the attack reached all the same; None for honest trainings.
        patients: Attacked patients behind that leakage.
    """

    detection: Detection
    lost: str | None
    leakage: Strongest | None
    patients: Count | None


def detection_rows(report: Report) -> list[DetectionRow]:
    """Return the rows of the table, honest trainings of a defense before the attacks on it."""
    pairings = {(p.protocol, p.defense, p.attack): p for p in report.pairings}
    keys = list(dict.fromkeys((d.protocol, d.defense) for d in report.detections))
    ordered = sorted(report.detections, key=lambda d: (keys.index((d.protocol, d.defense)), d.attack is not None))
    return [_row(d, pairings.get((d.protocol, d.defense, d.attack or ""))) for d in ordered]


def _row(detection: Detection, pairing: Pairing | None) -> DetectionRow:
    endpoint = worst_endpoint(pairing) if pairing is not None else None
    return DetectionRow(
        detection, _lost(detection.batches, detection.planned), pairing.leakage if pairing is not None else None,
        endpoint.leakage.patients if endpoint is not None else None,
    )  # fmt: skip


def _lost(batches: Sequence[int], planned: int | None) -> str | None:
    """Return how many batches had crossed by the alarms: median, range, and of how many."""
    if not batches:
        return None
    middle = median(batches)
    text = f"{middle:,.0f}" if float(middle).is_integer() else number(middle, 1)
    if min(batches) < max(batches):
        text += f" ({min(batches):,} to {max(batches):,})"
    return text if planned is None else f"{text} of {planned:,}"


def reading(report: Report) -> list[str]:
    """Return how to read the table, a sentence or two each; what depends on the numbers only where it applies."""
    rates = [d for d in report.detections if d.rate.value is not None and d.rate.ci is not None]
    wide = [d for d in rates if d.rate.ci is not None and d.rate.ci[1] - d.rate.ci[0] > _WIDE]
    lines = [
        "An alarm in an honest training is a false alarm: it stops a collaboration in which nobody did wrong.",
        "An alarm takes nothing back. What had crossed by then has been seen; the leakage in the last column is what the attack "
        "made of it, and patients whose messages never crossed count in it as not leaked.",
    ]
    if wide:
        d = min(wide, key=lambda d: d.trainings)
        low, high = d.rate.ci or (0.0, 1.0)
        lines.append(
            f"Few trainings make wide intervals: {d.alarms} of {plural(d.trainings, 'training')} means a true rate anywhere from "
            f"{percent(low)} to {percent(high)}."
        )
    return [*lines, "A rate speaks of these attacks only. A hijacker who knows the detector may adapt to it and evade it."]


def detection_lines(report: Report) -> list[str]:
    """Return what speaks against release: false alarms, and attacks that a watching defense never noticed."""
    lines = []
    for d in report.detections:
        if d.rate.value is None:
            continue
        name = f"{d.protocol} with {defense_name(d.defense)}"
        bounds = f"95 % interval {percent(d.rate.ci[0])} to {percent(d.rate.ci[1])}" if d.rate.ci else "no interval"
        if d.attack is None and d.alarms:
            lines.append(f"{name}: a false alarm stopped {d.alarms} of {plural(d.trainings, 'honest training')} ({bounds}).")
        elif d.attack is not None and not d.alarms:
            lines.append(f"{name}: no alarm in {plural(d.trainings, 'training')} under {d.attack} ({bounds}).")
    return lines
