"""Defenses at one Dice: leakage with its interval, one row for each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from leakaudit.report.model import SweepPoint
from leakaudit.report.phrases import number
from leakaudit.report.svg import around, chart, rule, ticks

__all__ = ["forest"]

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT = 720, 34, 26, 44, 210
_LONGEST = 30


def forest(points: Sequence[SweepPoint], *, name: str, title: str, description: str, limit: float | None) -> Markup:
    """Return the chart as SVG.

    Args:
        points: Swept defenses; one without a value keeps its row and says so.
        name: Unique part of the ids.
        title: Title for assistive technology.
        description: What can be seen, in words.
        limit: Largest acceptable leakage.
    """
    values = [v for p in points if p.leakage.value is not None for v in (p.leakage.value, *(p.leakage.ci or ()))]
    x = around([0.0, *([limit] if limit is not None else []), *values], _LEFT, _WIDTH - 20, 0.2)
    bottom = _TOP + _ROW * len(points)
    parts = [chart(name, title, description, (_WIDTH, bottom + _BOTTOM))]
    for value in ticks(x.low, x.high):
        parts.append(f'<line class="grid" x1="{x.at(value)}" x2="{x.at(value)}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x.at(value)}" y="{bottom + 17}" text-anchor="middle">{number(value)}</text>')
    parts.append(rule("chance", "chance", x.at(0), bottom, x.at(0), _TOP - 12))
    if limit is not None:
        parts.append(rule("limit", f"limit {number(limit)}", x.at(limit), bottom, x.at(limit), _TOP - 12))
    for i, point in enumerate(points):
        y = _TOP + _ROW * i + _ROW / 2
        short = point.defense if len(point.defense) <= _LONGEST else point.defense[: _LONGEST - 1] + "\u2026"
        parts.append(f'<text class="label" x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(short)}</text>')
        if point.leakage.value is None:
            parts.append(f'<text class="tick" x="{_LEFT + 8}" y="{y + 4}">no value</text>')
            continue
        if point.leakage.ci:
            parts.append(f'<path class="bar" d="M{x.at(point.leakage.ci[0])} {y}H{x.at(point.leakage.ci[1])}"/>')
        parts.append(f'<circle class="spot" cx="{x.at(point.leakage.value)}" cy="{y}" r="5.5"/>')
    parts.append(
        f'<text class="axis" x="{(x.start + x.end) / 2}" y="{bottom + 38}" text-anchor="middle">'
        "Leakage at that Dice, 95 % interval; further left is safer</text>"
    )
    return Markup("".join(parts) + "</svg>")
