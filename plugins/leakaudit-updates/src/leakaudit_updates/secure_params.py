"""Parameters of secure aggregation, without torch."""

from __future__ import annotations

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
        if sites < self.min_sites:
            return NotApplicable(reason=f"{sites} site(s) send updates, and only a sum of at least {self.min_sites} is released")
        needed = self.needed(sites)
        if not sites < 2 * needed <= 2 * sites:
            return NotApplicable(
                reason=f"threshold {needed} is not more than half of the {sites} sites and at most all of them: with fewer, an "
                "aggregator that tells two stories would hear enough answers to both"
            )
        roles = dict.fromkeys(role for f in flows for role in (f.sender, f.receiver))
        return Needs(seats=tuple(roles), channels=("update",), last=True)

    def shadow(self, victim: Victim) -> ShadowTraining:
        """Return ordinary steps: the sum, and so what is learned, is that of plain averaging up to the fixed-point step."""
        return ShadowTraining()

    def needed(self, sites: int) -> int:
        """Return the threshold for so many sites."""
        return sites // 2 + 1 if self.threshold is None else self.threshold
