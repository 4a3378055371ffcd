"""A number against the rounds of training, or against another count: a small chart, its lines named at their ends."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from leakaudit.report.phrases import number
from leakaudit.report.svg import Axis, around, chart, ticks

__all__ = ["DASHES", "lines"]

DASHES = 6
"""Kinds of strokes that tell lines apart without color; they repeat beyond."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 380, 220, 44, 14, 40
_LETTER, _LONGEST, _LEADING = 6.9, 12, 13.0
_APART = 5.0
"""Pixels between the intervals of two lines at one place."""

Bars = Mapping[str, Mapping[int, tuple[float, float]]]


def lines(
    series: Mapping[str, Mapping[int, float]], *, name: str, title: str, description: str, limit: float | None,
    axis: str = "Round of training", bars: Bars | None = None,
) -> Markup:  # fmt: skip
    """Return the chart as SVG.

    Args:
        series: Leakage by round of each line, at least one point in all; rounds that a line lacks are passed over.
        name: Unique part of the ids.
        title: Title for assistive technology.
        description: What can be seen, in words.
        limit: Largest acceptable leakage.
        axis: What is counted from left to right.
        bars: Intervals of the points, by line and round, those of different lines drawn beside each other; None draws none.
    """
    values = [v for points in series.values() for v in points.values()]
    values += [v for mine in (bars or {}).values() for ends in mine.values() for v in ends]
    spread = 0.0 if bars is None else _APART * (len(series) - 1) / 2
    rounds = sorted({r for points in series.values() for r in points})
    names = {key: key if len(key) <= _LONGEST else f"{key[: _LONGEST - 1]}\u2026" for key in series}
    right = round(_LETTER * max(len(n) for n in names.values())) + 14
    x = Axis(rounds[0] - 0.5, rounds[-1] + 0.5, _LEFT, _WIDTH - right) if len(rounds) < 2 else Axis(
        rounds[0], rounds[-1], _LEFT + 8 + spread, _WIDTH - right - spread
    )  # fmt: skip
    y = around([0.0, *([limit] if limit is not None else []), *values], _HEIGHT - _BOTTOM, _TOP, 0.2)
    parts = [chart(name, title, description, (_WIDTH, _HEIGHT), "lines"), _grid(x, y, rounds, limit, axis)]
    ends = _ends({key: y.at(points[max(points)]) for key, points in series.items() if points}, y)
    for i, (key, points) in enumerate(series.items()):
        if not points:
            continue
        beside = 0.0 if bars is None else _APART * i - spread
        spots = [(round(x.at(r) + beside, 1), y.at(points[r])) for r in sorted(points)]
        reach = [(round(x.at(r) + beside, 1), *map(y.at, ends)) for r, ends in (bars or {}).get(key, {}).items()]
        if reach:
            parts.append(f'<path class="reach" d="{"".join(f"M{px} {low}V{high}" for px, low, high in reach)}"/>')
        parts.append(f'<path class="line d{i % DASHES}" d="M{"L".join(f"{px} {py}" for px, py in spots)}"/>')
        parts.append(f'<path class="knots" d="{"".join(f"M{px} {py}h0" for px, py in spots)}"/>')
        parts.append(f'<text class="label" x="{_WIDTH - right + 8}" y="{ends[key] + 4:g}">{escape(names[key])}</text>')
    return Markup("".join(parts) + "</svg>")


def _grid(x: Axis, y: Axis, rounds: list[int], limit: float | None, axis: str) -> str:
    parts = []
    for value in ticks(y.low, y.high, 6):
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {at}H{x.end}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{number(value)}</text>')
    parts.append(f'<path class="zero" d="M{_LEFT} {y.at(0)}H{x.end}"/>')
    if limit is not None:
        parts.append(f'<path class="limit" d="M{_LEFT} {y.at(limit)}H{x.end}"/>')
    free = -1e9
    for r in rounds:  # every round that has room for its number
        if x.at(r) - free >= _LETTER * (len(str(r)) + 1):
            parts.append(f'<text class="tick" x="{x.at(r)}" y="{y.start + 15}" text-anchor="middle">{r}</text>')
            free = x.at(r)
    middle = (_LEFT + x.end) / 2
    parts.append(f'<text class="axis" x="{middle:g}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>')
    return "".join(parts)


def _ends(wanted: Mapping[str, float], y: Axis) -> dict[str, float]:
    """Return where each line's name stands: beside its last point, moved up or down so that none covers another."""
    order = sorted(wanted, key=lambda key: wanted[key])
    placed: dict[str, float] = {}
    floor = y.end
    for key in order:
        placed[key] = max(wanted[key], floor)
        floor = placed[key] + _LEADING
    ceiling = y.start
    for key in reversed(order):  # names that were pushed out at the bottom go back up
        placed[key] = min(placed[key], ceiling)
        ceiling = placed[key] - _LEADING
    return placed
