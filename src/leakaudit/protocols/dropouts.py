"""Sites that leave a federated training: the fault plan of a recipe, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from leakaudit.errors import nearest
from leakaudit.facts import Absence
from leakaudit.plugins.params import Params

__all__ = ["Dropout", "check_rounds", "check_sites", "described"]


class Dropout(Params):
    """One site that leaves in mid-training, for good or until a round."""

    site: str = Field(description="Site that leaves, by the name of its seat.")
    round: int = Field(ge=0, description="Round in which it leaves, counted from 0.")
    when: Literal["before", "after"] = Field(
        "before",
        description="Whether it leaves before that round, so that it is not asked in it, or after it sent its update, so that it "
        "does not answer what the aggregator asks about it (unmasking, for secure aggregation).",
    )
    returns: int | None = Field(None, ge=1, description="Round in which it takes part again; default never.")

    @model_validator(mode="after")
    def _returns_later(self) -> Dropout:
        if self.returns is not None and self.returns <= self.round:
            raise ValueError(
                f"returns {self.returns} must come after round {self.round}, in which {self.site!r} leaves: at least "
                f"{self.round + 1}"
            )
        return self

    def is_away(self, round_: int) -> bool:
        """Return whether the site is not asked to train in a round."""
        return self.absence().covers(round_)

    def is_silent(self, round_: int) -> bool:
        """Return whether the site trains in a round and is gone before it is asked about its update."""
        return self.absence().silent == round_

    def absence(self) -> Absence:
        """Return the fault as a public fact of its protocol."""
        first, silent = (self.round, None) if self.when == "before" else (self.round + 1, self.round)
        return Absence(seat=self.site, first=first, returns=self.returns, silent=silent)

    def words(self) -> str:
        """Return the fault as half a sentence, after the round in which it happens."""
        how = "before it was asked" if self.when == "before" else "after it sent its update, and answered no question about it"
        return f"site {self.site!r} left {how}, {'for good' if self.returns is None else f'until round {self.returns}'}"


def described(dropouts: Sequence[Dropout]) -> str:
    """Return a fault plan in one line."""
    return "; ".join(f"round {d.round}: {d.words()}" for d in sorted(dropouts, key=lambda d: (d.round, d.site)))


def check_rounds(dropouts: Sequence[Dropout], rounds: int) -> None:
    """Check that faults fall into the training, and that nobody leaves who is away.

    Raises:
        ValueError: They do not; the message says which, and the nearest round that would.
    """
    for d in dropouts:
        if d.round >= rounds:
            raise ValueError(
                f"dropouts: {d.site!r} leaves in round {d.round}, but the rounds are 0 to {rounds - 1}; the nearest is {rounds - 1}"
            )
        if d.returns is not None and d.returns >= rounds:
            raise ValueError(
                f"dropouts: {d.site!r} returns in round {d.returns}, but the last round is {rounds - 1}; leave returns out for a "
                "site that does not come back"
            )
    by_site: dict[str, list[Dropout]] = {}
    for d in sorted(dropouts, key=lambda d: d.round):
        by_site.setdefault(d.site, []).append(d)
    for site, faults in by_site.items():
        for one, other in pairwise(faults):
            if one.returns is None or other.round < one.returns:
                back = "does not come back" if one.returns is None else f"is away until round {one.returns}"
                raise ValueError(f"dropouts: {site!r} leaves in round {other.round}, but it left in round {one.round} and {back}")


def check_sites(dropouts: Sequence[Dropout], sites: Sequence[str]) -> None:
    """Check that the sites of a fault plan are there.

    Raises:
        ValueError: One is not; the message names the nearest that is.
    """
    for d in dropouts:
        if d.site not in sites:
            raise ValueError(f"dropouts: no site {d.site!r} has patients to train on.{nearest(d.site, sites)}")
