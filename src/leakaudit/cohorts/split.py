"""The split of patients into members, validation, test, non-members and auxiliary, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory, PatientEntry
from leakaudit.errors import UserError
from leakaudit.plugins.params import Params

__all__ = ["GROUPS", "SplitParams", "split_patients"]

GROUPS = ("members", "validation", "test", "non_members", "auxiliary")
"""The disjoint groups, in the order in which they are filled."""

_ATTACKED = 36  # reference evidence: the fewest patients with which an audit can PASS
_STREAM = 0x53504C54  # keeps these draws apart from other uses of the same seed

Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)]


class SplitParams(Params):
    """How many patients each group gets: a number of patients, or a fraction of all of them."""

    members: Share = Field(0.4, description="Patients to train on: a number, or a fraction between 0 and 1.")
    validation: Share = Field(0.1, description="Patients on which chance levels and attack choices are made; 0 for none.")
    test: Share = Field(0.1, description="Patients on which utility is measured; with 0 it is not measured.")
    non_members: Share = Field(0.2, description="Patients never trained on, the other side of membership inference; 0 for none.")
    auxiliary: Share = Field(0.2, description="Patients whose data the adversary may own; 0 for none.")
    attacked: int | None = Field(
        None,
        ge=1,
        description="Members on whose data the attacks are scored. Default: all, but at most 36, the fewest with which an "
        "audit can pass.",
    )
    stratify: bool = Field(True, description="Give each group its share of every site.")

    @model_validator(mode="after")
    def _possible(self) -> SplitParams:
        if self.members == 0:
            raise ValueError("members must be at least 1: somebody must be trained on")
        fractions = sum(share for share in (getattr(self, name) for name in GROUPS) if isinstance(share, float))
        if fractions > 1 + 1e-9:
            raise ValueError(f"the fractions of the groups add up to {fractions:g}, more than all patients")
        return self


def split_patients(inventory: Inventory, params: SplitParams, seed: int) -> Split:
    """Split the patients of an inventory into disjoint groups, at random and alike in every site.

    The patients stand in line, site after site and shuffled within each; a group of k takes every (n/k)-th of the n left, from
    a random start (systematic sampling, Cochran, Sampling Techniques, 1977, chapter 8). Every patient has the same chance of
    each group, and every site its share to within about one patient. Changing the number of a later group leaves the earlier
    ones as they are.

    Args:
        inventory: What there is.
        params: What is wanted.
        seed: Seed of the shuffle.

    Returns:
        Patient keys of each group, sorted.

    Raises:
        UserError: More patients are asked for than there are; the message says how many are missing and in which groups.
    """
    counts = _counts(params, len(inventory.patients))
    shuffle, pick, *starts = np.random.SeedSequence([seed, _STREAM]).spawn(2 + len(GROUPS))
    left = _line(inventory.patients, params.stratify, shuffle)
    groups: dict[str, list[str]] = {}
    for name, start in zip(GROUPS, starts, strict=True):
        groups[name] = _every(left, counts[name], start)
        taken = set(groups[name])
        left = [key for key in left if key not in taken]
    members = groups["members"]
    attacked = min(len(members), _ATTACKED) if params.attacked is None else params.attacked
    if attacked > len(members):
        raise UserError(
            f"attacked: {attacked} asks for more patients than there are members ({len(members)}). Raise members or lower attacked."
        )
    groups["attacked"] = _every(members, attacked, pick)
    return Split(**{name: tuple(sorted(keys)) for name, keys in groups.items()})


def _counts(params: SplitParams, total: int) -> dict[str, int]:
    """Turn shares into numbers of patients: fractions are rounded down, what remains goes to the largest remainders."""
    shares: dict[str, int | float] = {name: getattr(params, name) for name in GROUPS}
    exact = {name: share * total for name, share in shares.items() if isinstance(share, float)}
    counts = {name: int(exact[name] + 1e-9) if name in exact else int(share) for name, share in shares.items()}
    spare = round(sum(exact.values())) - sum(counts[name] for name in exact)
    for name in sorted(exact, key=lambda n: counts[n] - exact[n])[:spare]:
        counts[name] += 1
    if counts["members"] == 0:
        raise UserError(
            f"members: {params.members} of {total} patients is nobody. Give a number of patients, for example members: 1."
        )
    short, left = {}, total
    for name in GROUPS:
        if counts[name] > left:
            short[name] = counts[name] - left
        left = max(0, left - counts[name])
    if short:
        where = ", ".join(f"{missing} of {counts[name]} in {name}" for name, missing in short.items())
        raise UserError(
            f"The split asks for {sum(counts.values())} patients, but the data has {total}: {sum(short.values())} are missing "
            f"({where}). Lower these numbers; a group other than members may be 0."
        )
    return counts


def _line(patients: Sequence[PatientEntry], stratify: bool, seed: np.random.SeedSequence) -> list[str]:
    """Return patient keys in random order, those of one site next to each other."""
    rng = np.random.default_rng(seed)
    by_site: dict[str, list[str]] = {}
    for entry in sorted(patients, key=lambda p: p.patient):
        by_site.setdefault(entry.site if stratify else "", []).append(entry.patient)
    sites = sorted(by_site)
    return [by_site[sites[s]][i] for s in rng.permutation(len(sites)) for i in rng.permutation(len(by_site[sites[s]]))]


def _every(line: Sequence[str], count: int, seed: np.random.SeedSequence) -> list[str]:
    """Return `count` keys at equal distances on the line, from a random start, in its order."""
    places = (np.random.default_rng(seed).random() + np.arange(count)) * len(line) / max(count, 1)
    return [line[min(int(place), len(line) - 1)] for place in places]
