"""The report cut into the tables that the page shows. Nothing is scored here, and nothing is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from leakaudit.report.base import Status
from leakaudit.report.model import Baseline, Coverage, Report, Traffic
from leakaudit.report.pairings import Claim, Endpoint, GuaranteeStatement, ImageTriple, Pairing
from leakaudit.report.phrases import gap_name
from leakaudit.report.statement import tested
from leakaudit.report.trainings import Information

__all__ = [
    "ChannelRow", "CoverageTable", "MatrixRow", "channel_rows", "claims_of", "coverage_tables", "gaps", "image_shares",
    "information", "matrix", "reasons", "status_counts",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One row of the matrix: a training, and one cell for each attack (index into the pairings, None if not run)."""

    protocol: str
    defense: str
    baseline: Baseline | None
    cells: list[int | None]


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


def gaps(report: Report, most: int) -> tuple[list[tuple[str, list[str]]], int]:
    """Return what was not attacked, gaps with one reason together, and how many more there are.

    Args:
        report: The report.
        most: Gaps that are returned.
    """
    found: dict[str, list[str]] = {}
    for gap in report.not_attacked[:most]:
        found.setdefault(gap.reason, []).append(gap_name(gap))
    return list(found.items()), max(0, len(report.not_attacked) - most)


def reasons(report: Report) -> list[str]:
    """Return the reasons of the verdict without what stands under `What this does not show` anyway."""
    said = " ".join(report.sentences.not_shown) if report.sentences else ""
    return [reason for reason in report.verdict.reasons if reason.rpartition(": ")[2] not in said and reason not in said]


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


def claims_of(report: Report, baseline: Baseline, guarantee: GuaranteeStatement) -> list[tuple[Pairing, Claim]]:
    """Return the tests that one of a training's formal claims was put to."""
    found = [p for p in report.pairings if (p.protocol, p.defense) == (baseline.protocol, baseline.defense)]
    # A test that fits none of them stands with the first: nothing that was tested is left out.
    pairs = [(p, p.claim) for p in found if p.claim is not None]
    return [(p, c) for p, c in pairs if (tested(c, baseline.guarantees) or baseline.guarantee) == guarantee]


def information(report: Report) -> dict[tuple[str, str], dict[str, Information]]:
    """Return the Fisher information of what each seat sends, by training and seat."""
    return {(b.protocol, b.defense): {i.seat: i for i in b.information} for b in report.baselines}
