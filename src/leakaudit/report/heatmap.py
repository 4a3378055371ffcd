"""A map of numbers as a picture: rows in named groups, columns in named groups, a color and the number in every cell.

The steps of the color scale are classes `m0` ... `m6` of the style sheet, which gives them light, dark and printed colors and a
color for the number upon them. Lightness alone rises or falls along the scale, so it does not depend on telling hues apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup, escape

from leakaudit.report.phrases import number
from leakaudit.report.svg import chart

__all__ = ["STEPS", "Cell", "Columns", "Rows", "heatmap", "step", "step_words"]

STEPS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Where one color ends and the next begins: finer near the limits that policies set than near full recovery."""

Cell = float | Literal["unknown"] | None
"""A number; `"unknown"` where something was tried and there is no number; None where nothing was tried."""

_CELL, _ROW, _GAP, _HEAD = 44, 26, 2, 18
_LETTER = 6.9
_WIDEST = 1140
"""Widest picture that fits the page."""
_LONGEST_ROW, _LONGEST_COLUMN, _LONGEST_GROUP = 24, 12, 44


@dataclass(frozen=True, slots=True)
class Columns:
    """Neighboring columns under one head; an empty head is not drawn."""

    head: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Neighboring rows under one head: the name of each, and its cells in the order of all columns."""

    head: str
    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


def step(value: float) -> int:
    """Return the step of the scale that a number falls on: what is negative looks like zero, what is beyond 1 like 1."""
    return sum(value >= edge for edge in STEPS)


def step_words() -> list[str]:
    """Return what each step means, from the lowest."""
    edges = [number(edge) for edge in STEPS]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"{edges[-1]} and more"]


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}\u2026"


def heatmap(rows: Sequence[Rows], columns: Sequence[Columns], *, name: str, title: str, description: str) -> Markup:
    """Return the map as SVG.

    Args:
        rows: Groups of rows, each with one cell for every column.
        columns: Groups of columns.
        name: Unique part of the ids of title and description; letters, digits and hyphens.
        title: Title for assistive technology.
        description: What can be seen, in words.
    """
    names = [_short(n, _LONGEST_COLUMN) for group in columns for n in group.names]
    width = max([_CELL, *(round(_LETTER * len(n)) + 6 for n in names)])
    longest = max((len(_short(n, _LONGEST_ROW)) for group in rows for n in group.names), default=0)
    left = round(_LETTER * longest) + 12
    head = _HEAD * (2 if any(c.head for c in columns) else 1) + 4
    drawn, at, bottom = [], 0, 0
    right = max((round(_LETTER * 1.1 * len(_short(r.head, _LONGEST_GROUP))) for r in rows), default=0)
    for band in _bands(columns, left, width):
        places, end = _places(band, left, width)
        shown = _in_band(rows, slice(at, at + len(places)))
        at += len(places)
        if shown:
            top = bottom + head + (_HEAD if bottom else 0)
            body, bottom = _body(shown, places, width, top)
            drawn.append(_heads(band, places, width, top) + body)
            right = max(right, end)
    opened = chart(name, title, description, (right, bottom), "map")
    return Markup(f"{opened}{''.join(drawn)}</svg>")


def _bands(columns: Sequence[Columns], left: int, width: int) -> list[list[Columns]]:
    """Return the groups of columns that stand side by side; what is too many goes below, with the rows named again."""
    bands: list[list[Columns]] = []
    for group in columns:
        if bands and _places([*bands[-1], group], left, width)[1] <= _WIDEST:
            bands[-1].append(group)
        else:
            bands.append([group])
    return bands


def _places(columns: Sequence[Columns], left: int, width: int) -> tuple[list[int], int]:
    """Return where each column begins, and where the last one ends; groups stand apart."""
    places, x = [], left
    for group in columns:
        for _ in group.names:
            places.append(x)
            x += width + _GAP
        x += 5 * _GAP
    return places, x - 5 * _GAP


def _heads(columns: Sequence[Columns], places: Sequence[int], width: int, top: int) -> str:
    parts, at = [], 0
    for group in columns:
        mine = places[at : at + len(group.names)]
        at += len(group.names)
        if group.head and mine:
            middle = (mine[0] + mine[-1] + width) / 2
            parts.append(f'<text class="label" x="{middle:g}" y="{top - _HEAD - 8}">{escape(group.head)}</text>')
            parts.append(f'<path class="under" d="M{mine[0]} {top - _HEAD - 3}H{mine[-1] + width}"/>')
        for x, name in zip(mine, group.names, strict=True):
            parts.append(f'<text class="tick" x="{x + width / 2:g}" y="{top - 6}">{escape(_short(name, _LONGEST_COLUMN))}</text>')
    return f'<g class="mid">{"".join(parts)}</g>'


def _in_band(rows: Sequence[Rows], columns: slice) -> list[Rows]:
    """Return the rows cut to the columns of one band. A group with nothing in it stands elsewhere, at least in the last band."""
    cut = [(group, Rows(group.head, group.names, tuple(row[columns] for row in group.cells))) for group in rows]
    last = all(columns.stop == len(row) for group in rows for row in group.cells)
    return [mine for group, mine in cut if _tried(mine) or (last and not _tried(group))]


def _tried(group: Rows) -> bool:
    return any(cell is not None for row in group.cells for cell in row)


def _body(rows: Sequence[Rows], places: Sequence[int], width: int, top: int) -> tuple[str, int]:
    """Return names and cells, and where they end."""
    labels: list[str] = []
    cells: list[str] = []
    y = top
    for group in rows:
        labels.append(f'<text class="label" x="0" y="{y + 13}">{escape(_short(group.head, _LONGEST_GROUP))}</text>')
        y += _HEAD
        for name, values in zip(group.names, group.cells, strict=True):
            labels.append(f'<text class="tick" x="6" y="{y + 17}">{escape(_short(name, _LONGEST_ROW))}</text>')
            cells += [_cell(value, x, y, width) for x, value in zip(places, values, strict=True)]
            y += _ROW + _GAP
        y += 3 * _GAP
    return f'{"".join(labels)}<g class="mid">{"".join(cells)}</g>', y


def _cell(value: Cell, x: int, y: int, width: int) -> str:
    box = f'd="M{x} {y}h{width}v{_ROW}h-{width}z"'
    if value is None:
        return f'<path class="gone" {box}/>'
    middle = f'x="{x + width / 2:g}" y="{y + 17}"'
    if value == "unknown":
        return f'<path class="gone" {box}/><text class="tick" {middle}>n/a</text>'
    at = step(value)
    return f'<path class="m{at}" {box}/><text class="{"low" if at < 4 else "high"}" {middle}>{number(value)}</text>'
