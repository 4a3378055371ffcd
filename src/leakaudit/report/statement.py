"""The statement of a formal claim in words: what it covers, what it does not, and what the audit could say about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leakaudit.report.model import Report, Traffic
from leakaudit.report.pairings import Claim, GuaranteeStatement
from leakaudit.report.phrases import defense_name, listed, number
from leakaudit.report.vocabulary import CHANNEL_WORDS

__all__ = ["CLAIM_WORDS", "NEVER_COVERED", "NEVER_PROVED", "claim_lines", "claim_sentence", "covered", "not_covered", "tested"]

CLAIM_WORDS: dict[str, str] = {
    "REFUTED": "an attack showed a larger epsilon than was claimed",
    "NOT REFUTED": "no attack showed more than was claimed, and this audit could have",
    "UNTESTABLE": "this audit could not have shown more than was claimed, so it says nothing about the claim",
}

NEVER_COVERED = "An epsilon for weights never covers an activation: each covers its own channel and nothing else."
NEVER_PROVED = "An attack can refute a claim, never prove it."

_UNITS_ABOVE = {
    "record": "a whole patient (several images of one person), or a whole hospital",
    "patient": "a whole hospital",
    "site": "nothing larger than one hospital",
}


def covered(guarantee: GuaranteeStatement) -> str:
    """Return the releases of a claim, seats of one channel together: `update from site-0 and site-1`."""
    return "; ".join(f"{channel} from {listed(seats)}" for channel, seats in _released(guarantee).items()) or "no channel"


def _released(guarantee: GuaranteeStatement) -> dict[str, list[str]]:
    released: dict[str, list[str]] = {}
    for channel, seat in guarantee.releases:
        released.setdefault(channel, []).append(seat)
    return released


def not_covered(guarantee: GuaranteeStatement, traffic: Sequence[Traffic]) -> list[str]:
    """Return what a guarantee does not cover: channels on the wire that are not in its releases, and larger units.

    Args:
        guarantee: The claim.
        traffic: What crosses the wire in the same protocol. Where nothing is recorded, the statement says so.
    """
    released = _released(guarantee)
    lines = []
    for channel in dict.fromkeys(t.channel for t in traffic):
        if channel in released:
            lines.append(f"channel {channel} of any seat other than {listed(released[channel])}")
        else:
            lines.append(f"channel {channel} ({CHANNEL_WORDS[channel]})")
    if not traffic:
        lines.append("any other channel (no traffic is recorded, so which ones cross is unknown)")
    return [*lines, f"as a unit: {_UNITS_ABOVE[guarantee.unit]}"]


def tested(claim: Claim, guarantees: Sequence[GuaranteeStatement]) -> GuaranteeStatement | None:
    """Return which of several formal claims was put to the test; None where that cannot be told.

    It is the one of the same unit, delta and epsilon, or else the only one of that unit and delta.
    """
    alike = [g for g in guarantees if (g.unit, g.delta) == (claim.unit, claim.delta)]
    return next((g for g in alike if math.isclose(g.epsilon, claim.epsilon)), alike[0] if len(alike) == 1 else None)


def claim_sentence(claim: Claim, guarantee: GuaranteeStatement | None) -> str:
    """Return scope and ceiling of a tested claim in one sentence."""
    scope = f"{covered(guarantee)}, unit {guarantee.unit}" if guarantee is not None else f"its own channels, unit {claim.unit}"
    if claim.ceiling is None:
        return f"Epsilon covers {scope} only; how large an epsilon the audit could have shown is unknown."
    return f"Epsilon covers {scope} only; the audit could have shown at most epsilon = {number(claim.ceiling)}."


def claim_lines(report: Report, words: Sequence[str]) -> list[str]:
    """Return one line for each tested claim whose outcome is among `words`."""
    lines = []
    for p in report.pairings:
        if p.claim is None or p.claim.word not in words:
            continue
        c = p.claim
        text = (
            f"{p.protocol} with {defense_name(p.defense)}: the claimed epsilon {number(c.epsilon)} (unit {c.unit}) is {c.word} "
            f"by {p.attack}: {CLAIM_WORDS[c.word]}"
        )
        lines.append(f"{text} (shown: at least {number(c.lower_bound)}; most it could have shown: {number(c.ceiling)}).")
    return lines
