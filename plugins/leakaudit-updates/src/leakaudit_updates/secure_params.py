"""Parameters of secure aggregation, without torch."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Needs, NotApplicable

__all__ = ["SecureAggregationParams", "masking_sites"]


def masking_sites(facts: ProtocolFacts) -> tuple[str, ...]:
    """Return the seats that send updates, in the order of the facts: those whose masks cancel."""
    senders = {flow.sender for flow in facts.flows if flow.channel == "update"}
    return tuple(seat.id for seat in facts.seats if seat.role in senders)


class SecureAggregationParams(DefenseParams):
    """Masks that cancel in the sum of all sites' updates (Bonawitz et al. 2017)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"scale_bits": 12, "clip": 1.0}]})

    scale_bits: int = Field(
        24,
        ge=1,
        le=40,
        description="Bits after the binary point: an entry times the site's weight is rounded to multiples of 2**-scale_bits. A "
        "coarse grid is a defense of its own, so compare results only at the same value.",
    )
    clip: float = Field(
        64.0, gt=0, description="Bound of each floating-point entry's magnitude; what is larger is cut off, and the log says so."
    )
    threshold: int | None = Field(
        None,
        ge=1,
        description="Sites that must answer before anything is unmasked: more than half of all; default the smallest such number.",
    )
    min_sites: int = Field(2, ge=2, description="Fewest updates whose sum is released.")

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the seats that send updates and those that receive them; there must be enough sites."""
        flows = [flow for flow in facts.flows if flow.channel == "update"]
        if not flows:
            return NotApplicable(
                reason=f"no party of the protocol {facts.protocol!r} sends updates of a model (roles: {', '.join(facts.roles)})"
            )
        sites = len(masking_sites(facts))
        needed = self.needed(sites)
        if sites < self.min_sites:
            return NotApplicable(reason=f"{sites} site(s) send updates, and only a sum of at least {self.min_sites} is released")
        if needed > sites:
            return NotApplicable(reason=f"threshold {needed} is more than the {sites} sites that send updates")
        if 2 * needed <= sites:
            return NotApplicable(
                reason=f"threshold {needed} is not more than half of the {sites} sites: with fewer, an aggregator "
                "that tells two stories would hear enough answers to both"
            )
        failing = self._failing(facts)
        if failing is not None:
            return NotApplicable(reason=failing)
        roles = dict.fromkeys(role for f in flows for role in (f.sender, f.receiver))
        return Needs(seats=tuple(roles), channels=("update",), last=True)

    def _failing(self, facts: ProtocolFacts) -> str | None:
        """Return why the training is sure to stop, by the first round that is left too few sites; None if it may end well.

        Which sites are drawn where not all are asked is not known here, so the most that can be left count. A round in which
        nobody may be left is none to stop at: without updates there is nothing to unmask.
        """
        senders = masking_sites(facts)
        sites = len(senders)
        drawn, needed, majority = facts.drawn or sites, self.needed(sites), sites // 2 + 1
        least, limit, floor = max((needed, "threshold", majority), (self.min_sites, "min_sites", 2))
        for round_ in range(facts.rounds):
            away = [site for site in facts.away(round_) if site in senders]
            silent = [site for site in facts.silent(round_) if site in senders]
            if drawn <= len(away):
                continue
            sending = min(drawn, sites - len(away))
            answering = min(drawn, sites - len(away) - len(silent))
            if sending >= least and answering >= needed:
                continue
            what = f"{sending} of {sites} sites can send an update"
            if sending >= least:
                what = f"{answering} of {sites} sites can answer for the masks"
                least, limit, floor = needed, "threshold", majority
            lower = f", or lower {limit} of secure-aggregation" if least > floor else ""
            return (
                f"round {round_} would stop the training: {what} ({_who(away, silent, facts.drawn)}), and {limit} needs {least}. "
                f"Let more sites take part (dropouts and participation of the protocol){lower}"
            )
        return None

    def shadow(self, victim: Victim) -> ShadowTraining:
        """Return ordinary steps: the sum, and so what is learned, is that of plain averaging up to the fixed-point step."""
        return ShadowTraining()

    def needed(self, sites: int) -> int:
        """Return the threshold for so many sites."""
        return sites // 2 + 1 if self.threshold is None else self.threshold


def _who(away: Sequence[str], silent: Sequence[str], drawn: int | None) -> str:
    """Return in words who does not take part in all of a round."""
    parts = (
        f"away: {' and '.join(map(repr, away))}" if away else "",
        f"gone after the update: {' and '.join(map(repr, silent))}" if silent else "",
        f"asked in each round: {drawn}" if drawn else "",
    )
    return "; ".join(part for part in parts if part)
