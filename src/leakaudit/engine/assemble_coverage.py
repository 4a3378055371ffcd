"""Coverage in the report: which attack families were tried on which channels, and what was not attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from leakaudit.engine.plan import Baseline, Plan
from leakaudit.engine.results import Judged, Results
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.recipes.models import NONE
from leakaudit.report import model as m
from leakaudit.scoring.outcome import uncovered
from leakaudit.scoring.policy import Policy
from leakaudit.threats import Channel

__all__ = ["CoverageWriter"]


class CoverageWriter:
    """Writes what was attacked and what was not.

    Args:
        plan: What was planned.
        results: What was found.
        policy: Which families are required.
        info: Descriptor of a pairing's attack.
    """

    def __init__(self, plan: Plan, results: Results, policy: Policy, info: Callable[[Judged], AttackInfo]) -> None:
        self.plan, self.results, self.policy, self.info = plan, results, policy, info

    def not_attacked(self) -> list[m.NotAttacked]:
        """Return the gaps in coverage, defenses of one protocol with the same gap together."""
        gaps: dict[tuple[str, str, str], list[str]] = {}
        for b in self._defended():
            mine = [j.verdict for j in self._of(b)]
            for channel, family in uncovered(mine, b.facts.channels, self.policy):
                gaps.setdefault((b.protocol, channel, family), []).append(b.defense)
        total = {p: sum(b.protocol == p for b in self._defended()) for p in {b.protocol for b in self.plan.baselines}}
        return [
            m.NotAttacked(
                protocol=p, channel=cast(Channel, c), family=f, defenses=[] if len(d) == total[p] else d,
                reason="no valid adaptive attack of this family was run on this channel",
            )
            for (p, c, f), d in gaps.items()
        ]  # fmt: skip

    def coverage(self) -> list[m.Coverage]:
        """Return for every channel and family whether it was tried."""
        rows = []
        for b in self._defended():
            for channel in b.facts.channels:
                required = self.policy.required.get(channel, ())
                tried = [j for j in self._of(b) if self.info(j).channels and channel in self.info(j).channels]
                for family in dict.fromkeys((*required, *(self.info(j).family for j in tried))):
                    mine = [j for j in tried if self.info(j).family == family]
                    rows.append(
                        m.Coverage(
                            protocol=b.protocol,
                            defense=b.defense,
                            channel=channel,
                            family=family,
                            required=family in required,
                            state=_state(mine, channel, family),
                            attacks=[j.pairing.attack for j in mine],
                        )
                    )
        return rows

    def _defended(self) -> list[Baseline]:
        return [b for b in self.plan.baselines if b.defense != NONE and b.reason is None]

    def _of(self, b: Baseline) -> list[Judged]:
        return [j for j in self.results.judged if (j.pairing.protocol, j.pairing.defense) == (b.protocol, b.defense)]


def _state(tried: Sequence[Judged], channel: str, family: str) -> Any:
    if any((channel, family) in j.verdict.covers for j in tried):
        return "tested"
    if any(j.verdict.status == "ERROR" for j in tried):
        return "failed"
    ran = [j for j in tried if j.verdict.status != "N/A"]
    if ran:
        return "not adaptive" if not any(j.result.adaptive for j in ran) else "not tested"
    return "not applicable" if tried else "not tested"
