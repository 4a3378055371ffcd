"""Who leaks what at which level of the cut, to which attack, and when: endpoints cut into maps for the page.

One map holds one protocol, one kind of leakage and one channel: attacks and seats down, levels across, rounds side by side where
an attack reports them. Every defense has its own picture with the same rows and columns, so that pictures can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from leakaudit.report.heatmap import Cell, Columns, Rows, heatmap
from leakaudit.report.lines import lines
from leakaudit.report.model import Report
from leakaudit.report.pairings import Endpoint, Pairing
from leakaudit.report.phrases import defense_name, number, plural
from leakaudit.report.tradeoffs import kind_limit
from leakaudit.report.vocabulary import KIND_WORDS

__all__ = ["JOINT", "LAST", "DefenseMap", "LeakageMap", "MapEntry", "RoundChart", "leakage_maps"]

JOINT = "joint"
"""The column of evidence that was made from all levels together."""

LAST = "last"
"""The column of evidence that names no round: it was made from the last messages."""

_FEWEST_ROUNDS = 3
"""Rounds from which on a line says more than columns side by side."""

Place = tuple[str, str]
"""Attack and seat: one row."""

Found = list[tuple[Pairing, Endpoint]]


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One endpoint in a map's table."""

    attack: str
    seat: str
    level: str
    round: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class RoundChart:
    """Leakage against the rounds, of one attack on one seat."""

    title: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class DefenseMap:
    """The picture of one training, its table twin, and its charts by round."""

    defense: str
    svg: Markup
    entries: list[MapEntry]
    charts: list[RoundChart]


@dataclass(frozen=True, slots=True)
class LeakageMap:
    """Maps of one protocol, one kind of leakage and one channel: one for each training, the undefended one first."""

    protocol: str
    kind: str
    channel: str
    rounds: bool
    joint: bool
    crowded: bool
    maps: list[DefenseMap]

    @property
    def title(self) -> str:
        """Heading."""
        return f"{self.protocol}: {self.kind} ({KIND_WORDS[self.kind]}), from the channel {self.channel}"


def leakage_maps(report: Report) -> list[LeakageMap]:
    """Return a map for each protocol, kind of leakage and channel in which some endpoint was taken from a level."""
    groups: dict[tuple[str, str, str], Found] = {}
    for pairing in report.pairings:
        for endpoint in pairing.endpoints:
            groups.setdefault((pairing.protocol, endpoint.kind, endpoint.channel), []).append((pairing, endpoint))
    leveled = {key: found for key, found in groups.items() if any(_level(e) != JOINT for _, e in found)}
    return [_Drawn(report, *key, found, f"map-{i}").map() for i, (key, found) in enumerate(leveled.items())]


def _level(endpoint: Endpoint) -> str:
    return endpoint.level or JOINT


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts level10 behind level9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _ordered(found: set[str], known: Sequence[str]) -> list[str]:
    """Return names in the order of the protocol, what it does not name behind them."""
    return [*dict.fromkeys(known), *sorted(found - set(known), key=_natural)]


@dataclass
class _Drawn:
    """Draws one map; rows and columns are the same for every defense."""

    report: Report
    protocol: str
    kind: str
    channel: str
    found: Found
    name: str
    limit: float | None = field(init=False)

    def __post_init__(self) -> None:
        held = [s for s in self.report.seats if s.protocol == self.protocol]
        self.holdings = {s.seat: ", ".join(s.modalities) for s in held if s.modalities}
        levels = _ordered({_level(e) for _, e in self.found} - {JOINT}, [level for s in held for level in s.levels])
        self.joint = any(_level(e) == JOINT for _, e in self.found)
        self.levels = [*levels, *([JOINT] if self.joint else [])]
        numbered = sorted({e.round for _, e in self.found if e.round is not None})
        self.by_round = bool(numbered)
        self.rounds: list[int | None] = [*numbered, *([None] if any(e.round is None for _, e in self.found) else [])]
        seats = [s.seat for s in held]
        attacked: dict[str, set[str]] = {}
        for p, e in self.found:
            attacked.setdefault(p.attack, set()).add(e.seat or "")
        self.rows = {a: [s for s in _ordered(mine, seats) if s in mine] for a, mine in attacked.items()}
        self.limit = kind_limit(self.report, self.kind)

    def map(self) -> LeakageMap:
        """Return the maps of all trainings that were attacked."""
        by_defense: dict[str, Found] = {}
        for p, e in self.found:
            by_defense.setdefault(p.defense, []).append((p, e))
        ordered = sorted(by_defense.items(), key=lambda item: item[0] != "none")
        maps = [self._defense(d, mine, f"{self.name}-{i}") for i, (d, mine) in enumerate(ordered)]
        cells = [(p.defense, p.attack, e.seat, _level(e), e.round) for p, e in self.found]
        crowded = len(cells) > len(set(cells))
        return LeakageMap(self.protocol, self.kind, self.channel, self.by_round, self.joint, crowded, maps)

    def _seat(self, seat: str) -> str:
        """Return a seat with what it holds."""
        held = self.holdings.get(seat)
        return f"{seat or 'all seats'} ({held})" if held else seat or "all seats"

    def _defense(self, defense: str, mine: Found, name: str) -> DefenseMap:
        cells: dict[tuple[Place, int | None, str], Cell] = {}
        for p, e in mine:
            key = ((p.attack, e.seat or ""), e.round, _level(e))
            cells[key] = _larger(cells.get(key), "unknown" if e.leakage.value is None else e.leakage.value)
        columns = [Columns(self._round(r), tuple(self.levels)) for r in self.rounds]
        rows = [
            Rows(
                attack,
                tuple(self._seat(s) for s in seats),
                tuple(tuple(cells.get(((attack, s), r, level)) for r in self.rounds for level in self.levels) for s in seats),
            )
            for attack, seats in self.rows.items()
        ]
        what = f"{self.kind.capitalize()} leakage by attack, seat and level{' and round' if self.by_round else ''}"
        title = f"{what}, {self.protocol} with {defense_name(defense)}, channel {self.channel}"
        svg = heatmap(rows, columns, name=name, title=title, description=self._words(cells, rows))
        return DefenseMap(defense, svg, self._entries(mine), self._charts(cells, name))

    def _round(self, round_: int | None) -> str:
        if not self.by_round:
            return ""
        return LAST if round_ is None else f"round {round_}"

    def _words(self, cells: dict[tuple[Place, int | None, str], Cell], rows: Sequence[Rows]) -> str:
        """Return what can be seen: how many cells, the largest and the smallest number, what is not there."""
        known = {key: value for key, value in cells.items() if isinstance(value, float)}
        parts = [f"{plural(len(known), 'cell')} with a number"]
        if known:
            for word, key in (("largest", max(known, key=lambda k: known[k])), ("smallest", min(known, key=lambda k: known[k]))):
                (attack, seat), round_, level = key
                when = f", {self._round(round_)}" if self.by_round else ""
                parts.append(f"{word} {number(known[key])}: {attack}, {self._seat(seat)}, {level}{when}")
        if len(cells) > len(known):
            parts.append(f"{plural(len(cells) - len(known), 'cell')} attacked without a number")
        if any(cell is None for group in rows for row in group.cells for cell in row):
            parts.append("empty cells were not attacked")
        return f"{'; '.join(parts)}. Every value is in the table below."

    def _entries(self, mine: Found) -> list[MapEntry]:
        """Return the endpoints in the order of the picture's rows and columns."""
        attacks, last = list(self.rows), len(self.rounds)
        entries = [
            (
                (attacks.index(p.attack), self.rows[p.attack].index(e.seat or ""),
                 last if e.round is None else self.rounds.index(e.round), self.levels.index(_level(e))),
                MapEntry(p.attack, self._seat(e.seat or ""), _level(e), LAST if e.round is None else str(e.round), e),
            )
            for p, e in mine
        ]  # fmt: skip
        return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]

    def _charts(self, cells: dict[tuple[Place, int | None, str], Cell], name: str) -> list[RoundChart]:
        """Return a chart for each attack and seat with numbers from enough rounds."""
        charts: list[RoundChart] = []
        for attack, seats in self.rows.items():
            for seat in seats:
                series: dict[str, dict[int, float]] = {}
                for (place, round_, level), value in cells.items():
                    if place == (attack, seat) and round_ is not None and isinstance(value, float):
                        series.setdefault(level, {})[round_] = value
                rounds = sorted({r for points in series.values() for r in points})
                if len(rounds) < _FEWEST_ROUNDS:
                    continue
                ordered = {level: series[level] for level in self.levels if level in series}
                title = f"{attack}, {self._seat(seat)}"
                told = "; ".join(
                    f"{level} from {number(points[min(points)])} in round {min(points)} to {number(points[max(points)])} in round "
                    f"{max(points)}"
                    for level, points in ordered.items()
                )
                svg = lines(
                    ordered, name=f"{name}-{len(charts)}", title=f"{self.kind.capitalize()} leakage by round, {title}",
                    description=f"{told}. Every value is in the table below.", limit=self.limit,
                )  # fmt: skip
                charts.append(RoundChart(title, svg))
        return charts


def _larger(known: Cell, new: Cell) -> Cell:
    """Return what a cell shows of several endpoints: the largest number, and no number only where none has one."""
    if isinstance(known, float) and isinstance(new, float):
        return max(known, new)
    return known if isinstance(known, float) else new
