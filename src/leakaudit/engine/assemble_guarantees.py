"""Formal claims of the report: what seats claim of each repeat, joined where it is one claim and kept apart where it is not."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from leakaudit.defenses.guarantee import Guarantee
from leakaudit.report.pairings import GuaranteeStatement

__all__ = ["statements"]


def statements(trainings: Sequence[Mapping[str, Any]]) -> list[GuaranteeStatement]:
    """Return the formal claims of a defended training, in the order of seats and of the chain.

    Claims of several seats become one statement, with every release at the largest epsilon, only where they are of the same
    kind of mechanism, unit, neighbors, delta, accountant and channels. Of several repeats the largest epsilon stands, and only
    what was claimed of every repeat.

    Args:
        trainings: What the train cells of the repeats left: `guarantees`, a list of claims for each seat.
    """
    repeats = [_groups(t["guarantees"]) for t in trainings]
    if not repeats:
        return []
    keys = [key for key in repeats[0] if all(key in groups for groups in repeats)]
    found = [_statement([groups[key] for groups in repeats]) for key in keys]
    return [statement for statement in found if statement.releases]


def _groups(guarantees: Mapping[str, Sequence[dict[str, Any]]]) -> dict[Hashable, list[Guarantee]]:
    groups: dict[Hashable, list[Guarantee]] = {}
    for claims in guarantees.values():
        for claim in map(Guarantee.from_json, claims):
            groups.setdefault(_identity(claim), []).append(claim)
    return groups


def _identity(claim: Guarantee) -> Hashable:
    """Return what two claims must share to be one. Of a mechanism's words that is what precedes its numbers."""
    kind = re.split(r"[:,\d]", claim.mechanism)[0].strip()
    channels = frozenset(channel for channel, _ in claim.releases)
    return kind, claim.unit, claim.neighbors, claim.delta, claim.accountant, claim.conversion, claim.sampling_assumed, channels


def _statement(repeats: Sequence[Sequence[Guarantee]]) -> GuaranteeStatement:
    """Return one statement for the claims of all seats, repeat by repeat."""
    claims = [claim for repeat in repeats for claim in repeat]
    weakest = max(claims, key=lambda claim: claim.epsilon)
    released = [{release for claim in repeat for release in claim.releases} for repeat in repeats]
    releases = dict.fromkeys(release for claim in claims for release in claim.releases)
    return GuaranteeStatement(
        mechanism=weakest.mechanism, unit=weakest.unit, neighbors=weakest.neighbors,
        releases=[list(release) for release in releases if all(release in seen for seen in released)],
        epsilon=weakest.epsilon, delta=weakest.delta, accountant=weakest.accountant, conversion=weakest.conversion,
        sampling=weakest.sampling, sampling_assumed=weakest.sampling_assumed or None,
        assumes=list(dict.fromkeys(line for claim in claims for line in claim.assumes)),
    )  # fmt: skip
