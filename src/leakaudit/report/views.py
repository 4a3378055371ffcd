"""The report cut into the tables that the page shows. Nothing is scored here, and nothing is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leakaudit.report.base import Status
from leakaudit.report.model import Baseline, Coverage, Report, Traffic
from leakaudit.report.pairings import Endpoint, ImageTriple, Pairing, Strongest
from leakaudit.report.plots import Point, scatter, strip

__all__ = [
    "ChannelRow", "CoverageTable", "MatrixRow", "TradeOff", "channel_rows", "coverage_tables", "image_shares", "matrix",
    "patient_strip", "status_counts", "trade_offs",
]  # fmt: skip

_MOST_NAMES = 12
"""Points that carry their names; more are numbered as in the table beside the plot."""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One row of the matrix: a training, and one cell for each attack (index into the pairings, None if not run)."""

    protocol: str
    defense: str
    baseline: Baseline | None
    cells: list[int | None]


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Privacy against utility of one protocol: the plot, its table twin, and what could not be drawn."""

    protocol: str
    svg: Markup | None
    rows: list[tuple[int, Baseline, Strongest | None]]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One channel of one protocol: traffic, and the endpoints that used it."""

    protocol: str
    channel: str
    ways: list[Traffic]
    undefended: tuple[Pairing, Endpoint] | None
    defended: tuple[Pairing, Endpoint] | None
    counts: Counter[Status]


@dataclass(frozen=True, slots=True)
class CoverageTable:
    """Channels x attack families of one protocol; each cell holds the coverage of every defense."""

    protocol: str
    families: list[str]
    rows: list[tuple[str, list[list[Coverage]]]]


def status_counts(report: Report) -> list[tuple[str, int]]:
    """Return how many pairings have each status, worst first; statuses without any are left out."""
    counts = Counter(p.status for p in report.pairings)
    order: tuple[Status, ...] = ("FAIL", "ERROR", "REVIEW", "PASS", "control", "N/A")
    return [(status, counts[status]) for status in order if counts[status]]


def matrix(report: Report) -> tuple[list[str], list[MatrixRow]]:
    """Return the attacks (columns) and the rows of the matrix, in the order of the report."""
    attacks = list(dict.fromkeys(p.attack for p in report.pairings))
    index = {(p.protocol, p.defense, p.attack): i for i, p in enumerate(report.pairings)}
    baselines = {(b.protocol, b.defense): b for b in report.baselines}
    keys = dict.fromkeys([*baselines, *[(p.protocol, p.defense) for p in report.pairings]])
    protocols = list(dict.fromkeys(p for p, _ in keys))
    ordered = sorted(keys, key=lambda key: protocols.index(key[0]))
    return attacks, [MatrixRow(p, d, baselines.get((p, d)), [index.get((p, d, a)) for a in attacks]) for p, d in ordered]


def _strongest(report: Report, baseline: Baseline) -> Strongest | None:
    """Return the strongest attack on one training: as the report states it, else the largest leakage of its pairings."""
    if baseline.strongest is not None:
        return baseline.strongest
    found = [
        p
        for p in report.pairings
        if (p.protocol, p.defense) == (baseline.protocol, baseline.defense) and p.leakage and p.leakage.value is not None
    ]
    top = max(found, key=lambda p: p.leakage.value if p.leakage and p.leakage.value is not None else 0.0, default=None)
    return top.leakage.model_copy(update={"attack": top.attack}) if top and top.leakage else None


def trade_offs(report: Report) -> list[TradeOff]:
    """Return one privacy-utility plot for each protocol, with its table twin."""
    limit, result = report.threshold("leakage_max"), []
    for number, protocol in enumerate(dict.fromkeys(b.protocol for b in report.baselines)):
        baselines = [b for b in report.baselines if b.protocol == protocol]
        rows = [(i, b, _strongest(report, b)) for i, b in enumerate(baselines, 1)]
        points, left_out = [], []
        for i, baseline, top in rows:
            dice = baseline.utility.dice.get("mean")
            if top is None or top.value is None or dice is None:
                left_out.append(baseline.defense)
                continue
            label = _name(baseline.defense) if len(rows) <= _MOST_NAMES else str(i)
            points.append(
                Point(
                    label=label,
                    status=baseline.status,
                    x=top.value,
                    y=dice,
                    x_ci=top.ci,
                    y_ci=baseline.utility.ci,
                    ringed=bool(baseline.not_dominated),
                )
            )
        undefended = next((b.utility.dice.get("mean") for b in baselines if b.defense == "none"), None)
        svg = None
        if points:
            svg = scatter(
                points, name=f"tradeoff-{number}", title=f"Privacy against utility, {protocol}", limit=limit,
                description=f"{len(points)} trainings of {protocol}: leakage of the strongest attack against mean Dice, with "
                "95 % intervals both ways. Every value is in the table below.", undefended=undefended,
            )  # fmt: skip
        result.append(TradeOff(protocol, svg, rows, left_out))
    return result


def _name(defense: str) -> str:
    return "no defense" if defense == "none" else defense


def channel_rows(report: Report) -> list[ChannelRow]:
    """Return leakage by channel: every channel with traffic or an endpoint, attacked or not."""
    keys = dict.fromkeys((t.protocol, str(t.channel)) for t in report.traffic)
    uses: dict[tuple[str, str], list[tuple[Pairing, Endpoint]]] = {}
    for pairing in report.pairings:
        for endpoint in pairing.endpoints:
            uses.setdefault((pairing.protocol, endpoint.channel), []).append((pairing, endpoint))
    rows = []
    order = list(dict.fromkeys(protocol for protocol, _ in [*keys, *uses]))
    for protocol, channel in sorted(dict.fromkeys([*keys, *uses]), key=lambda key: order.index(key[0])):
        used = uses.get((protocol, channel), [])
        ways: dict[tuple[str, str], Traffic] = {}
        for t in report.traffic:
            if (t.protocol, t.channel) == (protocol, channel):
                ways.setdefault((t.sender, t.receiver), t)
        rows.append(
            ChannelRow(
                protocol,
                channel,
                list(ways.values()),
                _worst([u for u in used if u[0].defense == "none"]),
                _worst([u for u in used if u[0].defense != "none"]),
                Counter(e.status for _, e in used),
            )
        )
    return rows


def _worst(used: Sequence[tuple[Pairing, Endpoint]]) -> tuple[Pairing, Endpoint] | None:
    valued = [(e.leakage.value, i) for i, (_, e) in enumerate(used) if e.leakage.value is not None]
    return used[max(valued)[1]] if valued else None


def coverage_tables(report: Report) -> list[CoverageTable]:
    """Return, for each protocol, channels x attack families with every defense's coverage."""
    tables = []
    for protocol in dict.fromkeys(c.protocol for c in report.coverage):
        cells = [c for c in report.coverage if c.protocol == protocol]
        families = list(dict.fromkeys(c.family for c in cells))
        by_place: dict[tuple[str, str], list[Coverage]] = {}
        for c in cells:
            by_place.setdefault((c.channel, c.family), []).append(c)
        channels = dict.fromkeys(str(c.channel) for c in cells)
        tables.append(CoverageTable(protocol, families, [(ch, [by_place.get((ch, f), []) for f in families]) for ch in channels]))
    return tables


def image_shares(report: Report, budget: int) -> dict[int, list[ImageTriple]]:
    """Return the images of each pairing that fit into `budget` characters: the same number for every pairing.

    Args:
        report: The report.
        budget: Characters of base64 in all.
    """
    owners = {i: p.images for i, p in enumerate(report.pairings) if p.images}
    shown: dict[int, list[ImageTriple]] = {i: [] for i in owners}
    left = budget
    for rank in range(max((len(images) for images in owners.values()), default=0)):
        layer = {i: images[rank] for i, images in owners.items() if len(images) > rank}
        left -= sum(len(t.original) + len(t.reconstruction) + len(t.chance or "") for t in layer.values())
        if left < 0:
            break
        for i, triple in layer.items():
            shown[i].append(triple)
    return shown


def patient_strip(endpoint: Endpoint, title: str, patient_max: float | None) -> Markup | None:
    """Return the strip of an endpoint's patients, None where it has no values by patient."""
    values = [p.value for p in endpoint.leakage.per_patient]
    if not values or endpoint.leakage.value is None:
        return None
    low, high = min(-0.1, *values), max(1.0, *values)
    return strip(values, title=title, low=low, high=high, mean=endpoint.leakage.value, limit=patient_max)
