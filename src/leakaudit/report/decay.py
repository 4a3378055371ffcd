"""How leakage from updates changes over a federation: by round, and over protocols that differ in one number only.

Charts and tables are cut from the endpoints of the report. A direction is put into words only where intervals allow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from leakaudit.report.lines import DASHES, lines
from leakaudit.report.model import ProtocolSweep, Report
from leakaudit.report.pairing_words import ONE_RUN
from leakaudit.report.pairings import Endpoint, Pairing
from leakaudit.report.phrases import defense_name, number, whereabouts
from leakaudit.report.protocols import Parameter
from leakaudit.report.tradeoffs import kind_limit

__all__ = ["Decay", "DecayChart", "DecayRow", "decay_reading", "decays"]

_FEW, _SOME = 5, 10
"""Patients below which there is no interval, and below which an interval is indicative."""

_AXES: dict[Parameter | None, tuple[str, str, str]] = {
    None: ("Round of training", "by round", "in round {}"),
    "batch_size": ("Samples in a batch", "by batch size", "with a batch size of {}"),
    "local_steps": ("Local steps in a round", "by local steps", "with local steps: {}"),
    "local_epochs": ("Local passes in a round", "by local passes", "with local passes: {}"),
    "rounds": ("Rounds of training in all", "last round, by rounds of training", "after rounds: {}"),
}
"""Name of the axis, of the chart, and of a place on the axis; None is the round that was attacked."""

_Key = tuple[str, str]
_Line = dict[int, tuple[Pairing, Endpoint]]


@dataclass(frozen=True, slots=True)
class DecayRow:
    """One endpoint in a table."""

    attack: str
    endpoint: str
    defense: str
    at: int
    protocol: str
    found: Endpoint
    note: str


@dataclass(frozen=True, slots=True)
class DecayChart:
    """Leakage of one endpoint of one attack, a line for each training, and what the intervals let be said about it."""

    title: str
    svg: Markup
    words: str


@dataclass(frozen=True, slots=True)
class Decay:
    """Leakage by round of one protocol, or over the protocols of one sweep: charts and their table twin."""

    title: str
    column: str
    parameter: Parameter | None
    charts: list[DecayChart]
    rows: list[DecayRow]
    trainings: int


def decays(report: Report) -> list[Decay]:
    """Return leakage from updates by round for each protocol, and by parameter for each sweep; what has one point is left out."""
    found = [_Drawn(report, f"{protocol}: by round", None, _by_round(report, protocol)) for protocol in _protocols(report)]
    for sweep in report.sweeps:
        title = f"{_AXES[sweep.parameter][1].capitalize()}: {', '.join(s.protocol for s in sweep.settings)}"
        found.append(_Drawn(report, title, sweep.parameter, _by_value(report, sweep)))
    return [drawn.decay(f"decay-{i}") for i, drawn in enumerate(found) if drawn.curves]


def decay_reading(found: Sequence[Decay], min_repeats: float) -> list[str]:
    """Return how to read the charts, a sentence or two each; what depends on the run only where it applies.

    Args:
        found: What `decays` returned.
        min_repeats: Trainings from which on an interval covers what another training would change.
    """
    told = [
        "Bars are 95 % intervals over patients. Where the interval at the start of a line and the one at its end do not overlap, "
        "the words say lower or higher; otherwise a line shows no direction, however it looks. With fewer than "
        f"{_SOME} patients an interval is indicative, with fewer than {_FEW} there is none.",
    ]
    if any(d.parameter is None for d in found):
        told.append(
            "Whoever keeps all updates attacks the one that leaks most: the highest point of a line counts, not the last. Less "
            "leakage in later rounds says that these attacks found less in them, not that they are safe."
        )
    if any(d.parameter is not None for d in found):
        told.append(
            "Protocols beside each other differ in the one number that is named; each is a training of its own. With whole local "
            "passes a larger batch also means fewer steps."
        )
    if any(d.parameter is not None and d.trainings < min_repeats for d in found):
        told.append(
            f"With fewer than {min_repeats:g} trainings of each protocol the intervals do not cover what another training would "
            "change, so no direction is stated between protocols."
        )
    if any(d.trainings == 1 for d in found):
        told.append(ONE_RUN)
    return told


def _protocols(report: Report) -> list[str]:
    return list(dict.fromkeys(p.protocol for p in report.pairings))


def _updates(report: Report, protocol: str) -> Iterator[tuple[Pairing, Endpoint]]:
    """Yield the endpoints of one protocol that were taken from updates, undefended trainings first."""
    for pairing in sorted((p for p in report.pairings if p.protocol == protocol), key=lambda p: p.defense != "none"):
        yield from ((pairing, e) for e in pairing.endpoints if e.channel == "update")


def _name(endpoint: Endpoint) -> str:
    """Return what an endpoint is called in every round."""
    name = endpoint.name if endpoint.round is None else endpoint.name.replace(f"@{endpoint.round}", "")
    where = [w for w in whereabouts(endpoint.model_copy(update={"round": None})) if w != "all seats"]
    return ", ".join([name, *where])


_Curves = dict[_Key, dict[str, _Line]]
"""Lines by defense of each attack and endpoint."""


def _by_round(report: Report, protocol: str) -> _Curves:
    curves: _Curves = {}
    for p, e in _updates(report, protocol):
        if e.round is not None:
            curves.setdefault((p.attack, _name(e)), {}).setdefault(p.defense, {})[e.round] = (p, e)
    return curves


def _by_value(report: Report, sweep: ProtocolSweep) -> _Curves:
    """Return lines over the protocols of a sweep.

    The same round is compared; where the number of rounds is swept, the last one, because the first does not depend on it.
    """
    rounds = {t.protocol: t.rounds for t in report.protocols}
    curves: _Curves = {}
    for setting in sweep.settings:
        for p, e in _updates(report, setting.protocol):
            last = e.round is None or e.round == rounds.get(setting.protocol, 0) - 1
            if sweep.parameter == "rounds" and not last:
                continue
            when = "" if sweep.parameter == "rounds" or e.round is None else f", round {e.round}"
            curves.setdefault((p.attack, _name(e) + when), {}).setdefault(p.defense, {})[setting.value] = (p, e)
    return curves


@dataclass
class _Drawn:
    """Draws the curves of one protocol or one sweep."""

    report: Report
    title: str
    parameter: Parameter | None
    curves: _Curves

    def __post_init__(self) -> None:
        self.curves = {k: mine for k, mine in self.curves.items() if len({x for line in mine.values() for x in line}) > 1}
        self.column, self.kind_of_chart, self.place = _AXES[self.parameter]
        self.trainings = min((p.repeats for mine in self.curves.values() for line in mine.values() for p, _ in line.values()),
                             default=0)  # fmt: skip

    def decay(self, name: str) -> Decay:
        charts: list[DecayChart] = []
        for (attack, endpoint), mine in self.curves.items():
            for part in _parts(list(mine)):
                shown = {d: {x: e for x, (_, e) in mine[d].items() if e.leakage.value is not None} for d in part}
                shown = {d: points for d, points in shown.items() if points}
                if any(len(points) > 1 for points in shown.values()):
                    charts.append(self._chart(f"{attack}, {endpoint}", shown, f"{name}-{len(charts)}"))
        rows = [
            DecayRow(attack, endpoint, defense, x, p.protocol, e, _note(e))
            for (attack, endpoint), mine in self.curves.items()
            for defense, line in mine.items()
            for x, (p, e) in sorted(line.items())
        ]
        return Decay(self.title, self.column, self.parameter, charts, rows, self.trainings)

    def _chart(self, title: str, shown: Mapping[str, Mapping[int, Endpoint]], name: str) -> DecayChart:
        kind = next(e.kind for points in shown.values() for e in points.values())
        series: dict[str, dict[int, float]] = {}
        bars: dict[str, dict[int, tuple[float, float]]] = {}
        for defense, points in shown.items():
            label = defense_name(defense)
            series[label] = {x: e.leakage.value for x, e in points.items() if e.leakage.value is not None}
            bars[label] = {x: (e.leakage.ci[0], e.leakage.ci[1]) for x, e in points.items() if e.leakage.ci}
        words = "; ".join(f"{defense_name(d)}: {self._told(points)}" for d, points in shown.items())
        svg = lines(
            series, name=name, title=f"{kind.capitalize()} leakage {self.kind_of_chart}, {title}", axis=self.column, bars=bars,
            description=f"{words}. Every value is in the table below.", limit=kind_limit(self.report, kind),
        )  # fmt: skip
        return DecayChart(title, svg, words)

    def _told(self, points: Mapping[int, Endpoint]) -> str:
        """Return where a line starts and ends, and a direction only where the two intervals do not overlap."""
        order = [points[x] for x in sorted(points)]
        spoken = [f"{number(points[x].leakage.value)} {self.place.format(x)}" for x in (min(points), max(points))]
        if len(order) == 1:
            return f"{spoken[0]} only"
        return f"{spoken[0]}, {spoken[1]}{self._direction(order)}"

    def _direction(self, order: Sequence[Endpoint]) -> str:
        if any(_note(e) for e in (order[0], order[-1])):
            return " (indicative, no direction)"
        if self.parameter is not None and self.trainings < (self.report.threshold("min_repeats") or 3):
            return ""
        whole = _apart(order[0], order[-1])
        if whole == 0:
            return " (intervals overlap, no direction)"
        steps = [_apart(a, b) for a, b in pairwise(order)]
        return f" ({'lower' if whole < 0 else 'higher'}{', at every step' if len(steps) > 1 and set(steps) == {whole} else ''})"


def _parts(defenses: Sequence[str]) -> list[list[str]]:
    """Return which lines stand in one chart: at most as many as strokes tell apart, the undefended one in each."""
    if len(defenses) <= DASHES:
        return [list(defenses)]
    first, rest = [d for d in defenses if d == "none"], [d for d in defenses if d != "none"]
    size = DASHES - len(first)
    return [[*first, *rest[i : i + size]] for i in range(0, len(rest), size)]


def _note(endpoint: Endpoint) -> str:
    """Return what weakens one number: too few patients, or no interval."""
    n = endpoint.leakage.patients
    if endpoint.leakage.value is None:
        return ""
    if isinstance(n, str) or n < _FEW:
        return "value only"
    return "indicative" if n < _SOME else "" if endpoint.leakage.ci else "no interval"


def _apart(a: Endpoint, b: Endpoint) -> int:
    """Return 1 where the interval of b lies above that of a, -1 where it lies below it, 0 where they overlap."""
    if a.leakage.ci is None or b.leakage.ci is None:
        return 0
    return (b.leakage.ci[0] > a.leakage.ci[1]) - (b.leakage.ci[1] < a.leakage.ci[0])
