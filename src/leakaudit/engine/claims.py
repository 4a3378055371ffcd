"""Claims put to the test: a defense's guarantee against the epsilon that canaries show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leakaudit.defenses.guarantee import Guarantee
from leakaudit.engine.merge import Merged
from leakaudit.engine.merge_epsilon import EpsilonTables
from leakaudit.scoring.epsilon import check_claim
from leakaudit.scoring.results import ClaimResult

__all__ = ["Tested", "at_delta", "examined_claims", "worst_claim"]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """One claim and the endpoint that it was put to the test with.

    Attributes:
        endpoint: Name of the endpoint.
        guarantee: The claim, the weakest of the seats that hold canaries.
        result: What came of it.
    """

    endpoint: str
    guarantee: Guarantee
    result: ClaimResult


def at_delta(merged: Merged, delta: float) -> Merged:
    """Return an epsilon endpoint with its bound at another delta."""
    assert isinstance(merged.tables, EpsilonTables)
    return replace(merged, tables=replace(merged.tables, delta=delta))


def examined_claims(
    merged: Mapping[str, Merged], trainings: Sequence[Mapping[str, Any]], undefended: Mapping[str, Merged], *, significance: float
) -> Iterator[Tested]:
    """Yield what every epsilon endpoint of a pairing says of the claims that speak of the same unit, channel and neighbors.

    Args:
        merged: Endpoints of the defended pairing by name.
        trainings: `train.json` of its trainings, with their guarantees.
        undefended: Endpoints of the same attack without defense: the control that shows what the audit could have seen.
        significance: Allowed probability that a true claim is refuted.
    """
    for name, endpoint in merged.items():
        tables = endpoint.tables
        if not isinstance(tables, EpsilonTables):
            continue
        claim = _covering(endpoint, tables, trainings)
        if claim is None:
            continue
        bound = replace(tables, delta=claim.delta).bound(significance)
        control = undefended.get(name)
        without = None if control is None else _tables(control, claim.delta).bound(significance).value
        outcome = check_claim(bound.value, claim.epsilon, ceiling=bound.ceiling, control=without)
        result = ClaimResult(
            outcome=outcome, claimed=claim.epsilon, bound=bound.value, ceiling=bound.ceiling, delta=claim.delta, unit=claim.unit,
            covers=f"channel {endpoint.channel}, unit {claim.unit}", reason=_reason(outcome, claim, bound.ceiling, without),
        )  # fmt: skip
        yield Tested(endpoint=name, guarantee=claim, result=result)


def worst_claim(found: Sequence[Tested]) -> ClaimResult | None:
    """Return the outcome that a pairing stands for: a refuted claim first, then one that could not be tested."""
    order = ("REFUTED", "UNTESTABLE", "NOT REFUTED")
    return min((t.result for t in found), key=lambda r: order.index(r.outcome), default=None)


def _tables(merged: Merged, delta: float) -> EpsilonTables:
    tables = at_delta(merged, delta).tables
    assert isinstance(tables, EpsilonTables)
    return tables


def _covering(endpoint: Merged, tables: EpsilonTables, trainings: Sequence[Mapping[str, Any]]) -> Guarantee | None:
    """Return the weakest claim about the endpoint over trainings and seats; None where some seat or training makes none.

    An audit over several seats bounds the largest of their epsilons at the largest of their deltas: it is held against these.
    Holding each seat's canaries against its own claim would be sharper, but takes as many tests as there are claims, each with
    a share of the canaries and of the risk, and can show less than the one test of all.
    """
    found: list[Guarantee] = []
    for training in trainings:
        claims = {seat: [Guarantee.from_json(c) for c in listed] for seat, listed in training["guarantees"].items()}
        for site in set(tables.sites):
            claim = _about(site, endpoint.channel, tables, claims)
            if claim is None:
                return None
            found.append(claim)
    if not found:
        return None
    return replace(max(found, key=lambda c: c.epsilon), delta=max(c.delta for c in found))


def _about(site: str, channel: str, tables: EpsilonTables, claims: Mapping[str, Sequence[Guarantee]]) -> Guarantee | None:
    """Return the claim about the canaries of one site in one training; None where nobody makes one."""
    if channel == "update":  # every site sends its own, and of its own claims the strictest is the one to refute
        own = [c for c in claims.get(site, ()) if _fits(c, channel, site, tables.units)]
        return min(own, key=lambda c: c.epsilon, default=None)
    # One release stands for all. A site speaks for its own patients, and for another's only who holds no canaries.
    own = [c for c in claims.get(site, ()) if _fits(c, channel, None, tables.units)]
    others = [
        c for seat, group in claims.items() if seat not in tables.sites for c in group if _fits(c, channel, None, tables.units)
    ]
    return max(own or others, key=lambda c: c.epsilon, default=None)


def _fits(claim: Guarantee, channel: str, seat: str | None, units: Sequence[str]) -> bool:
    released = any(c == channel and seat in (None, s) for c, s in claim.releases)
    return released and claim.unit in units and claim.neighbors == "add-or-remove"


def _reason(outcome: str, claim: Guarantee, ceiling: float, control: float | None) -> str | None:
    if outcome == "REFUTED":
        return f"canaries show more than {claim.mechanism} is said to allow"
    if outcome != "UNTESTABLE":
        return None
    if ceiling <= claim.epsilon:
        return "with so few canaries not even a perfect attack would have shown more than is claimed"
    if control is None:
        return "the same audit was not run without defense"
    return f"without any defense the same audit shows no more than {control:.2f} either"
