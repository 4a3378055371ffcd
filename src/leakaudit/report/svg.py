"""What every chart is made of: axes, round ticks, and text that is safe in markup.

Colors come from the page's style sheet by class, so that charts follow light, dark and print. Statuses differ by shape: the
symbols `#i-pass`, `#i-fail`, ... are defined once in the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import escape

__all__ = ["Axis", "around", "chart", "icon_id", "rule", "ticks"]


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
class Axis:
    """A linear axis: values [low, high] on pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def around(values: Sequence[float], start: float, end: float, least: float) -> Axis:
    """Return an axis that holds all values with room at both ends, and spans at least `least`."""
    low, high = min(values), max(values)
    pad = max(0.06 * (high - low), (least - (high - low)) / 2, 0.01)
    return Axis(low - pad, high + pad, start, end)


def rule(kind: str, label: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a reference line with its label: chance, limit, Dice without defense."""
    where = f'x="{x1 + 6}" y="{round(y1 - 6, 1)}"' if y1 == y2 else f'x="{x1 + 4}" y="{y2 + 11}"'
    line = f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
    return line + f'<text class="rule-label {kind}" {where}>{escape(label)}</text>'


def chart(name: str, title: str, description: str, size: tuple[int, int], kind: str = "") -> str:
    """Return the opening of a chart with title and description for assistive technology.

    Args:
        name: Unique part of the ids; letters, digits and hyphens.
        title: What it is.
        description: What can be seen, in words.
        size: Width and height in pixels of its own coordinates.
        kind: Further class: a chart that has one is drawn in that size and not as wide as the page allows.
    """
    fixed = f' {kind}" width="{size[0]}" height="{size[1]}"' if kind else '"'
    return (
        f'<svg class="chart{fixed} viewBox="0 0 {size[0]} {size[1]}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    )
