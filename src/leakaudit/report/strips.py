"""How leakage spreads over patients, as a small strip: quantiles always, a dot for each patient where values are listed.

A thousand strips must stay small: they share one scale and its markup wherever their values fit into it.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from leakaudit.report.pairings import Endpoint
from leakaudit.report.phrases import number
from leakaudit.report.svg import Axis, ticks

__all__ = ["SCALE", "patient_strip", "scale_symbol"]

SCALE = (-0.2, 1.0)
"""The shared scale of leakage."""

_START, _END = 14.0, 382.0


def _scale(low: float, high: float, limit: float | None) -> str:
    axis = Axis(low, high, _START, _END)
    marks = f'<path class="zero" d="M{axis.at(0):g} 4V36"/><path class="base" d="M8 36H392"/>'
    if limit is not None and low <= limit <= high:
        marks += f'<path class="limit" d="M{axis.at(limit):g} 4V36"/>'
    return marks + "".join(
        f'<text class="tick" x="{axis.at(t):g}" y="50" text-anchor="middle">{number(t)}</text>' for t in ticks(low, high, 5)
    )


def scale_symbol(limit: float | None) -> Markup:
    """Return the shared scale as a symbol that strips refer to.

    Args:
        limit: Largest acceptable leakage of one patient.
    """
    return Markup(f'<symbol id="scale" viewBox="0 0 400 56">{_scale(*SCALE, limit)}</symbol>')


def patient_strip(endpoint: Endpoint, limit: float | None) -> Markup | None:
    """Return the strip of an endpoint, None where nothing is known by patient.

    Args:
        endpoint: Its quantiles, values by patient and worst patient are drawn; the table beside the strip holds the numbers.
        limit: Largest acceptable leakage of one patient.
    """
    leakage, q = endpoint.leakage, endpoint.leakage.quantiles
    values = [p.value for p in leakage.per_patient]
    if leakage.value is None or not (values or q):
        return None
    known = [leakage.value, *values, *([leakage.worst.value] if leakage.worst else []), *([q.low, q.high] if q else [])]
    low, high = min(known), max(known)
    shared = SCALE[0] <= low and high <= SCALE[1]
    low, high = SCALE if shared else (min(SCALE[0], low - 0.05), max(SCALE[1], high + 0.05))
    axis = Axis(low, high, _START, _END)
    scale = '<use href="#scale" width="400" height="56"/>' if shared else _scale(low, high, limit)
    drawn = _dots(values, axis) + _box(endpoint, axis) + f'<path class="mean" d="M{axis.at(leakage.value):g} 18V36"/>'
    title, description = escape(f"{endpoint.name}, leakage by patient"), escape(_describe(endpoint))
    head = f'<svg class="strip" viewBox="0 0 400 56" role="img"><title>{title}</title><desc>{description}</desc>'
    return Markup(f"{head}{scale}{drawn}</svg>")


def _dots(values: list[float], axis: Axis) -> str:
    if not values:
        return ""
    start, scale = axis.at(axis.low), (axis.end - axis.start) / (axis.high - axis.low)
    # A fixed sequence and not a random jitter: the page is the same whenever it is rendered.
    dots = "".join([f"M{start + (value - axis.low) * scale:.0f} {6 + (i * 7) % 11}h0" for i, value in enumerate(values)])
    return f'<path class="dots" d="{dots}"/>'


def _box(endpoint: Endpoint, axis: Axis) -> str:
    q, worst = endpoint.leakage.quantiles, endpoint.leakage.worst
    drawn = ""
    if q is not None:
        low, quarter, median, three, high = (axis.at(v) for v in (q.low, q.quarter, q.median, q.three_quarters, q.high))
        drawn = f'<path class="spread" d="M{low:g} 27H{high:g}"/><path class="box" d="M{quarter:g} 22H{three:g}V32H{quarter:g}z"/>'
        drawn += f'<path class="median" d="M{median:g} 22V32"/>'
    return drawn + (f'<path class="top" d="M{axis.at(worst.value):g} 22l4 5-4 5-4-5z"/>' if worst is not None else "")


def _describe(endpoint: Endpoint) -> str:
    q, worst = endpoint.leakage.quantiles, endpoint.leakage.worst
    parts = [f"n = {endpoint.leakage.patients}", f"mean {number(endpoint.leakage.value)}"]
    if q is not None:
        parts.append(f"half of the patients between {number(q.quarter)} and {number(q.three_quarters)}")
    if worst is not None:
        parts.append(f"worst {number(worst.value)}")
    return f"{', '.join(parts)}. The numbers are in the table below."
