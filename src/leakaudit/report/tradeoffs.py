"""Privacy against utility, cut for the page: plots by protocol and kind of leakage, comparisons, defenses at equal Dice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from leakaudit.report.base import Count
from leakaudit.report.forest import forest
from leakaudit.report.model import Baseline, Comparison, EqualUtility, Report
from leakaudit.report.pairings import Pairing, Strongest
from leakaudit.report.phrases import defense_name, listed, number, plural
from leakaudit.report.scatter import Point, scatter
from leakaudit.report.vocabulary import KIND_WORDS

__all__ = ["ComparisonView", "Curve", "TradeOff", "TradeOffRow", "comparisons", "equal_utility", "kind_limit", "trade_offs"]

_MOST_NAMES = 12
"""Points that carry their names; more are numbered as in the table beside the plot."""
_MOST_PAIRS = 40
"""Comparisons that are all listed; of more only those of which one beats the other."""
_MOST_REASONS = 5
"""Reasons why two trainings are not distinguishable that are named, the most frequent first."""


@dataclass(frozen=True, slots=True)
class TradeOffRow:
    """One training in a plot's table: its number, the strongest attack, and the attacked patients behind it."""

    number: int
    baseline: Baseline
    strongest: Strongest | None
    patients: Count | None


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Privacy against utility of one protocol and one kind of leakage: plot, table twin, band in words, what is not drawn."""

    protocol: str
    kind: str | None
    svg: Markup | None
    rows: list[TradeOffRow]
    left_out: list[str]
    band: str

    @property
    def title(self) -> str:
        """Heading: the protocol, and the kind of leakage where there are several."""
        return self.protocol if self.kind is None else f"{self.protocol}, {self.kind} ({KIND_WORDS[self.kind]})"


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """Defenses compared two by two: what is listed, and in words what the rest is and how strict the rule was."""

    rows: list[Comparison]
    words: list[str]


@dataclass(frozen=True, slots=True)
class Curve:
    """Swept defenses at one Dice: chart and data."""

    data: EqualUtility
    svg: Markup


def kind_limit(report: Report, kind: str | None) -> float | None:
    """Return the limit of a kind of leakage, as its endpoints were held against it; None where they differ or have none."""
    if kind is None:
        return report.threshold("leakage_max")
    limits = {e.limit for p in report.pairings for e in p.endpoints if e.kind == kind and e.limit is not None}
    return limits.pop() if len(limits) == 1 else None


def trade_offs(report: Report) -> list[TradeOff]:
    """Return a privacy-utility plot for each protocol and kind of leakage, with its table twin."""
    result: list[TradeOff] = []
    for protocol in dict.fromkeys(b.protocol for b in report.baselines):
        baselines = [b for b in report.baselines if b.protocol == protocol]
        kinds: list[str | None] = list(dict.fromkeys(str(s.kind) for b in baselines for s in b.by_kind if s.kind is not None))
        for kind in kinds or [None]:
            result.append(_trade_off(report, protocol, kind, baselines, len(result)))
    return result


def _trade_off(report: Report, protocol: str, kind: str | None, baselines: list[Baseline], index: int) -> TradeOff:
    rows = [TradeOffRow(i, b, _strongest(report, b, kind), _patients(report, b, kind)) for i, b in enumerate(baselines, 1)]
    drawn = [r for r in rows if _drawable(r)]
    undefended = next((b.utility.dice.get("mean") for b in baselines if b.defense == "none"), None)
    svg = None
    if drawn:
        points = [_point(r, named=len(rows) <= _MOST_NAMES) for r in drawn]
        what = "leakage" if kind is None else f"{kind} leakage"
        svg = scatter(
            points, name=f"tradeoff-{index}", title=f"Privacy against utility, {protocol}{f', {kind}' if kind else ''}",
            limit=kind_limit(report, kind), undefended=undefended, label=f"{what.capitalize()} of the strongest attack",
            description=f"{plural(len(points), 'training')} of {protocol}: {what} of the strongest attack against mean Dice, with "
            f"95 % intervals both ways. {_band(rows)} Every value is in the table below.",
        )  # fmt: skip
    left_out = [r.baseline.defense for r in rows if not _drawable(r)]
    return TradeOff(protocol, kind, svg, rows, left_out, _band(rows))


def _drawable(row: TradeOffRow) -> bool:
    return row.strongest is not None and row.strongest.value is not None and row.baseline.utility.dice.get("mean") is not None


def _point(row: TradeOffRow, *, named: bool) -> Point:
    b, top = row.baseline, row.strongest
    dice = b.utility.dice.get("mean")
    if top is None or top.value is None or dice is None:
        raise ValueError("a training without leakage or Dice has no place in the plot")
    return Point(
        label=defense_name(b.defense) if named else str(row.number), status=b.status, x=top.value, y=dice, x_ci=top.ci,
        y_ci=b.utility.ci, ringed=b.not_dominated is True,
    )  # fmt: skip


def _band(rows: list[TradeOffRow]) -> str:
    """Return in words which defenses nothing significantly dominates."""
    found = {defense_name(r.baseline.defense): r.baseline.not_dominated for r in rows}
    if all(inside is None for inside in found.values()):
        return "Which trainings are dominated cannot be said: that takes at least 3 repeats of each."
    band = [name for name, inside in found.items() if inside]
    if False not in found.values():
        return "Nothing is significantly dominated: between these the evidence does not choose."
    return f"Not significantly dominated: {listed(band)}. Between these the evidence does not choose."


def _strongest(report: Report, baseline: Baseline, kind: str | None) -> Strongest | None:
    """Return the strongest attack on one training: as the report states it, else the largest leakage of its pairings."""
    if kind is not None:
        return next((s for s in baseline.by_kind if s.kind == kind), None)
    if baseline.strongest is not None:
        return baseline.strongest
    found = [p for p in _of(report, baseline) if p.leakage and p.leakage.value is not None]
    top = max(found, key=lambda p: p.leakage.value if p.leakage and p.leakage.value is not None else 0.0, default=None)
    return top.leakage.model_copy(update={"attack": top.attack}) if top and top.leakage else None


def _of(report: Report, baseline: Baseline) -> list[Pairing]:
    return [p for p in report.pairings if (p.protocol, p.defense) == (baseline.protocol, baseline.defense)]


def _patients(report: Report, baseline: Baseline, kind: str | None) -> Count | None:
    """Return how many patients are behind a training's leakage: the fewest of the endpoints that it may come from."""
    counts = [e.leakage.patients for p in _of(report, baseline) for e in p.endpoints if kind is None or e.kind == kind]
    few = next((n for n in counts if isinstance(n, str)), None)
    return few or min((n for n in counts if isinstance(n, int)), default=None)


def comparisons(report: Report) -> ComparisonView:
    """Return the comparisons that are listed, and in words how many there are and how strict the rule is."""
    every = report.comparisons
    beats = [c for c in every if c.outcome != "not distinguishable"]
    words = []
    if every:
        words.append(
            f"{plural(len(every), 'comparison')} of two trainings, each in both directions: {len(beats)} significant, "
            f"{len(every) - len(beats)} not distinguishable. The bounds of leakage are tightened for all questions asked in a "
            "protocol (Bonferroni)."
        )
    reasons = Counter(c.reason for c in every if c.reason is not None)
    words += [f"{plural(count, 'comparison')}: {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
    if len(every) > _MOST_PAIRS:
        words.append("Only the significant ones are listed; all of them are in report.json.")
        return ComparisonView(beats, words)
    return ComparisonView(every, words)


def equal_utility(report: Report) -> list[Curve]:
    """Return the swept defenses at equal Dice, each with its chart."""
    curves = []
    for i, e in enumerate(report.equal_utility):
        values = [p for p in e.points if p.leakage.value is not None]
        described = "; ".join(f"{p.defense} {number(p.leakage.value)}" for p in values)
        svg = forest(
            e.points, name=f"equal-{i}", title=f"{e.kind.capitalize()} leakage at mean Dice {number(e.dice)}, {e.protocol}",
            description=f"{plural(len(e.points), 'swept defense')} at one Dice: {described}. The numbers are in the table below.",
            limit=kind_limit(report, e.kind),
        )  # fmt: skip
        curves.append(Curve(e, svg))
    return curves
