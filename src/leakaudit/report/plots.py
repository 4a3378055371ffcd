"""Charts as SVG, written by hand: privacy against utility, and leakage patient by patient.

Colors come from the page's style sheet by class, so that charts follow light, dark and print. Statuses differ by shape: the
symbols `#i-pass`, `#i-fail`, ... are defined once in the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from leakaudit.report.words import number

__all__ = ["Point", "icon_id", "scatter", "strip", "ticks"]

_WIDTH, _HEIGHT = 720, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 22, 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One training in the scatter.

    Attributes:
        label: Text beside the mark.
        status: Status word; sets the shape.
        x: Leakage.
        y: Mean Dice.
        x_ci: 95 % interval of x.
        y_ci: 95 % interval of y.
        ringed: In the band that nothing significantly dominates.
    """

    label: str
    status: str
    x: float
    y: float
    x_ci: Sequence[float] | None = None
    y_ci: Sequence[float] | None = None
    ringed: bool = False


def icon_id(status: str) -> str:
    """Return the id of a status's symbol in the page."""
    return "i-" + status.lower().replace("/", "")


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return round tick positions that cover [low, high] inside it."""
    raw = (high - low) / count
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(base * m for m in (1, 2, 5, 10) if base * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _axis(values: Sequence[float], start: float, end: float, least: float) -> _Axis:
    low, high = min(values), max(values)
    pad = max(0.06 * (high - low), (least - (high - low)) / 2, 0.01)
    return _Axis(low - pad, high + pad, start, end)


def _place(points: Sequence[Point], x: _Axis, y: _Axis, undefended: float | None) -> list[tuple[float, float, str]]:
    """Return position and anchor of each label, avoiding marks and earlier labels where there is room."""
    taken = [(x.at(p.x) - 7, y.at(p.y) - 7, x.at(p.x) + 7, y.at(p.y) + 7) for p in points]
    if undefended is not None:
        taken.append((x.end - 150, y.at(undefended) - 2, x.end, y.at(undefended) + 18))
    placed = []
    for point in points:
        px, py, width = x.at(point.x), y.at(point.y), 6.6 * len(point.label) + 4
        best: tuple[int, tuple[float, float, str], tuple[float, float, float, float]] | None = None
        for dx, dy, side in _OFFSETS:
            left = px + dx if side == "start" else px + dx - width
            box = (left, py + dy - 10, left + width, py + dy + 3)
            outside = 4 * (box[0] < x.start or box[2] > x.end or box[1] < y.end or box[3] > y.start)
            cost = outside + sum(b[0] < box[2] and box[0] < b[2] and b[1] < box[3] and box[1] < b[3] for b in taken)
            if best is None or cost < best[0]:
                best = (cost, (round(px + dx, 1), round(py + dy, 1), side), box)
        if best is not None:
            placed.append(best[1])
            taken.append(best[2])
    return placed


_OFFSETS = tuple((9.0 if side == "start" else -9.0, dy, side) for dy in (-8.0, 17.0, -22.0, 31.0) for side in ("start", "end"))


def _grid(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in ticks(x.low, x.high):
        at = x.at(value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{y.end}" y2="{y.start}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{y.start + 17}" text-anchor="middle">{number(value)}</text>')
    for value in ticks(y.low, y.high, 5):
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="tick" x="{x.start - 7}" y="{at + 4}" text-anchor="end">{number(value)}</text>')
    middle_x, middle_y = (x.start + x.end) / 2, (y.start + y.end) / 2
    parts.append(
        f'<text class="axis" x="{middle_x}" y="{_HEIGHT - 12}" text-anchor="middle">'
        "Leakage of the strongest attack (0 = chance, 1 = full recovery); further left is safer</text>"
    )
    parts.append(
        f'<text class="axis" x="16" y="{middle_y}" text-anchor="middle" transform="rotate(-90 16 {middle_y})">'
        "Mean Dice; higher is more useful</text>"
    )
    return parts


def _rule(kind: str, label: str, x1: float, y1: float, x2: float, y2: float) -> str:
    where = f'x="{x2 - 4}" y="{y1 + 14}" text-anchor="end"' if y1 == y2 else f'x="{x1 + 4}" y="{y2 + 11}"'
    line = f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
    return line + f'<text class="rule-label {kind}" {where}>{escape(label)}</text>'


def _mark(point: Point, x: _Axis, y: _Axis, label: tuple[float, float, str]) -> str:
    px, py, kind = x.at(point.x), y.at(point.y), icon_id(point.status)[2:]
    parts = [f'<g class="mark s-{kind}">']
    if point.x_ci:
        parts.append(f'<path class="bar" d="M{x.at(point.x_ci[0])} {py}H{x.at(point.x_ci[1])}"/>')
    if point.y_ci:
        parts.append(f'<path class="bar" d="M{px} {y.at(point.y_ci[0])}V{y.at(point.y_ci[1])}"/>')
    if point.ringed:
        parts.append(f'<circle class="ring" cx="{px}" cy="{py}" r="11"/>')
    parts.append(f'<use href="#i-{kind}" x="{px - 7:.1f}" y="{py - 7:.1f}" width="14" height="14"/>')
    parts.append(f'<text class="label" x="{label[0]}" y="{label[1]}" text-anchor="{label[2]}">{escape(point.label)}</text></g>')
    return "".join(parts)


def scatter(
    points: Sequence[Point], *, name: str, title: str, description: str, limit: float | None, undefended: float | None
) -> Markup:
    """Return the privacy-utility plot as SVG.

    Args:
        points: Trainings, at least one.
        name: Unique part of the ids of title and description; letters, digits and hyphens.
        title: Title for assistive technology.
        description: What can be seen, in words.
        limit: Largest acceptable leakage; drawn as a line.
        undefended: Mean Dice without any defense; drawn as a line.
    """
    xs = [0.0, *([limit] if limit is not None else []), *[v for p in points for v in (p.x, *(p.x_ci or ()))]]
    ys = [*([undefended] if undefended is not None else []), *[v for p in points for v in (p.y, *(p.y_ci or ()))]]
    x = _axis(xs, _LEFT, _WIDTH - _RIGHT, 0.2)
    y = _axis(ys, _HEIGHT - _BOTTOM, _TOP, 0.1)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    ]
    if limit is not None:
        parts.append(
            f'<rect class="accept" x="{x.start}" y="{y.end}" width="{x.at(limit) - x.start:.1f}" height="{y.start - y.end}"/>'
        )
    parts += _grid(x, y)
    parts.append(_rule("chance", "chance", x.at(0), y.start, x.at(0), y.end))
    if limit is not None:
        parts.append(_rule("limit", f"limit {number(limit)}", x.at(limit), y.start, x.at(limit), y.end))
    if undefended is not None:
        parts.append(_rule("undefended", "Dice without defense", x.start, y.at(undefended), x.end, y.at(undefended)))
    parts += [_mark(p, x, y, label) for p, label in zip(points, _place(points, x, y, undefended), strict=True)]
    return Markup("".join(parts) + "</svg>")


def strip(values: Sequence[float], *, title: str, low: float, high: float, mean: float, limit: float | None) -> Markup:
    """Return leakage patient by patient as a strip of dots: one path, so that a thousand strips stay small.

    Args:
        values: Leakage by patient.
        title: Title for assistive technology; the table beside the strip holds the values.
        low: Left end of the axis.
        high: Right end of the axis.
        mean: Mean leakage.
        limit: Largest acceptable leakage of one patient.
    """
    axis = _Axis(low, high, 14.0, 382.0)
    # A fixed sequence and not a random jitter: the page is the same whenever it is rendered.
    start, scale = axis.at(low), (axis.end - axis.start) / (high - low)
    dots = "".join([f"M{start + (value - low) * scale:.1f} {12 + (i * 7) % 17}h0" for i, value in enumerate(values)])
    rules = f'<path class="zero" d="M{axis.at(0):g} 4V36"/>'
    if limit is not None and low <= limit <= high:
        rules += f'<path class="limit" d="M{axis.at(limit):g} 4V36"/>'
    labels = "".join(
        f'<text class="tick" x="{axis.at(t):g}" y="50" text-anchor="middle">{number(t)}</text>' for t in ticks(low, high, 5)
    )
    dots_path = f'<path class="dots" d="{dots}"/><path class="mean" d="M{axis.at(mean):g} 6V34"/>'
    head = f'<svg class="strip" viewBox="0 0 400 56" role="img" aria-label="{escape(title)}">'
    return Markup(f'{head}{rules}<path class="base" d="M8 36H392"/>{dots_path}{labels}</svg>')
