"""The privacy-utility plot: leakage of the strongest attack against Dice, with the band that nothing significantly dominates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from leakaudit.report.phrases import number
from leakaudit.report.svg import Axis, around, chart, icon_id, rule, ticks

__all__ = ["Point", "scatter"]

_WIDTH, _HEIGHT = 720, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 22, 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One training in the plot.

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


_OFFSETS = tuple((9.0 if side == "start" else -9.0, dy, side) for dy in (-8.0, 17.0, -22.0, 31.0) for side in ("start", "end"))


def _place(points: Sequence[Point], x: Axis, y: Axis, undefended: float | None) -> list[tuple[float, float, str]]:
    """Return position and anchor of each label, avoiding marks and earlier labels where there is room."""
    taken = [(x.at(p.x) - 7, y.at(p.y) - 7, x.at(p.x) + 7, y.at(p.y) + 7) for p in points]
    if undefended is not None:
        taken.append((x.start, y.at(undefended) - 20, x.start + 150, y.at(undefended) + 2))
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


def _grid(x: Axis, y: Axis, label: str) -> list[str]:
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
        f"{escape(label)} (0 = chance, 1 = full recovery); further left is safer</text>"
    )
    parts.append(
        f'<text class="axis" x="16" y="{middle_y}" text-anchor="middle" transform="rotate(-90 16 {middle_y})">'
        "Mean Dice; higher is more useful</text>"
    )
    return parts


def _mark(point: Point, x: Axis, y: Axis, label: tuple[float, float, str]) -> str:
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


def _band(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Return halos of the ringed points, joined from left to right by a thin line."""
    spots = sorted((x.at(p.x), y.at(p.y)) for p in points if p.ringed)
    if not spots:
        return ""
    halos = "".join(f"M{px} {py}h0" for px, py in spots)
    return f'<path class="joined" d="M{"L".join(f"{px} {py}" for px, py in spots)}"/><path class="band" d="{halos}"/>'


def scatter(
    points: Sequence[Point],
    *,
    name: str,
    title: str,
    description: str,
    limit: float | None,
    undefended: float | None,
    label: str = "Leakage of the strongest attack",
) -> Markup:
    """Return the privacy-utility plot as SVG.

    Args:
        points: Trainings, at least one.
        name: Unique part of the ids of title and description; letters, digits and hyphens.
        title: Title for assistive technology.
        description: What can be seen, in words.
        limit: Largest acceptable leakage; drawn as a line.
        undefended: Mean Dice without any defense; drawn as a line.
        label: What leakage is meant, for the axis.
    """
    xs = [0.0, *([limit] if limit is not None else []), *[v for p in points for v in (p.x, *(p.x_ci or ()))]]
    ys = [*([undefended] if undefended is not None else []), *[v for p in points for v in (p.y, *(p.y_ci or ()))]]
    x = around(xs, _LEFT, _WIDTH - _RIGHT, 0.2)
    y = around(ys, _HEIGHT - _BOTTOM, _TOP, 0.1)
    parts = [chart(name, title, description, (_WIDTH, _HEIGHT))]
    if limit is not None:
        parts.append(
            f'<rect class="accept" x="{x.start}" y="{y.end}" width="{x.at(limit) - x.start:.1f}" height="{y.start - y.end}"/>'
        )
    parts += [*_grid(x, y, label), _band(points, x, y), rule("chance", "chance", x.at(0), y.start, x.at(0), y.end)]
    if limit is not None:
        parts.append(rule("limit", f"limit {number(limit)}", x.at(limit), y.start, x.at(limit), y.end))
    if undefended is not None:
        parts.append(rule("undefended", "Dice without defense", x.start, y.at(undefended), x.end, y.at(undefended)))
    parts += [_mark(p, x, y, at) for p, at in zip(points, _place(points, x, y, undefended), strict=True)]
    return Markup("".join(parts) + "</svg>")
