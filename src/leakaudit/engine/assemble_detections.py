"""Alarms in the report: every one that was raised, and how often watching defenses raised one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from leakaudit.engine.plan import Baseline, Plan
from leakaudit.engine.results import Results
from leakaudit.plugins.descriptors import DefenseInfo
from leakaudit.report import model as m
from leakaudit.report.base import Measured
from leakaudit.report.privacy import sanitize
from leakaudit.scoring.rates import clopper_pearson

__all__ = ["DetectionWriter"]

Trainings = Sequence[Mapping[str, Any]]


class DetectionWriter:
    """Writes alarms, detection rates and false alarms.

    Args:
        plan: What was planned.
        results: What was found.
        known: Identifiers that no text may contain.
    """

    def __init__(self, plan: Plan, results: Results, known: tuple[str, ...]) -> None:
        self._plan, self._results, self._known = plan, results, known
        self._watching = {
            d.label for d in plan.recipe.defenses if any(cast(DefenseInfo, link.plugin.info).detector for link in d.links)
        }

    def alarms(self) -> list[m.Alarm]:
        """Return every alarm, of honest and of attacked trainings."""
        return [
            m.Alarm(
                protocol=b.protocol, defense=b.defense, attack=attack, seat=t["alarm"]["seat"], round=t["alarm"]["round"],
                text=sanitize(f"{t['alarm']['detector']}: {t['alarm']['reason']}", known=self._known),
            )
            for b in self._plan.baselines
            for attack, trainings in self._trainings(b)
            for t in trainings
            if t["alarm"]
        ]  # fmt: skip

    def detections(self) -> list[m.Detection]:
        """Return one row for the honest trainings of each watching defense, and one for each attack that alters them."""
        return [
            _detection(b, attack, trainings)
            for b in self._plan.baselines
            if b.defense in self._watching and b.reason is None
            for attack, trainings in self._trainings(b)
        ]

    def _trainings(self, baseline: Baseline) -> list[tuple[str | None, Trainings]]:
        """Return the trainings of a defense: honest ones under None, others under the attack that altered them."""
        place = (baseline.protocol, baseline.defense)
        altered = [
            (j.pairing.attack, j.altered)
            for j in self._results.judged
            if (j.pairing.protocol, j.pairing.defense) == place and j.altered
        ]
        return [(None, self._results.trainings[place]), *altered]


def _detection(baseline: Baseline, attack: str | None, trainings: Trainings) -> m.Detection:
    raised = [t["alarm"] for t in trainings if t["alarm"]]
    n = len(trainings)
    found = clopper_pearson(len(raised), n) if n else None
    rate = (
        Measured(value=None, reason="no training ended")
        if found is None
        else Measured(value=len(raised) / n, ci=[found.low, found.high])
    )
    return m.Detection(
        protocol=baseline.protocol, defense=baseline.defense, attack=attack, alarms=len(raised), trainings=n, rate=rate,
        batches=sorted(a["batches"] for a in raised), planned=max((a["planned"] for a in raised), default=None),
    )  # fmt: skip
