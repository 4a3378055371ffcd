"""Trainings of the report: one entry for each protocol and defense, with what the defense costs and what it claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from leakaudit.engine.assemble_pairings import PairingWriter
from leakaudit.engine.comparisons import Comparisons
from leakaudit.engine.happenings import happenings
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.plan import Baseline
from leakaudit.engine.results import Results
from leakaudit.engine.utility import UtilityResult
from leakaudit.recipes.models import NONE
from leakaudit.report import model as m
from leakaudit.report.base import Measured
from leakaudit.report.privacy import sanitize

__all__ = ["BaselineWriter"]


class BaselineWriter:
    """Writes the entries of trainings.

    Args:
        results: What was found.
        outcomes: How every cell ended.
        pairings: Writes claims, and takes identifiers out of texts.
        compared: How defenses compare.
    """

    def __init__(self, results: Results, outcomes: Mapping[str, Outcome], pairings: PairingWriter, compared: Comparisons) -> None:
        self._results, self._outcomes, self._pairings, self._compared = results, outcomes, pairings, compared

    def baseline(self, b: Baseline) -> m.Baseline:
        """Return what the report says of one defense under one protocol: verdict, Dice, claims, traffic and time."""
        place = (b.protocol, b.defense)
        verdict, trainings = self._results.defenses[place], self._results.trainings[place]
        seconds = [o.seconds for k in b.trains if (o := self._outcomes.get(k)) is not None and o.ok and not o.cached]
        return m.Baseline(
            protocol=b.protocol, defense=b.defense, status=verdict.status, reasons=self._pairings.clean(verdict.reasons),
            utility=self._utility(self._results.utility[place], b), strongest=self._compared.strongest(b),
            by_kind=self._compared.by_kind(b), not_dominated=self._compared.not_dominated(b),
            **self._pairings.guarantees(trainings),
            traffic_bytes=sum(t[4] for t in trainings[0]["traffic"]) if trainings else None,
            seconds=sum(seconds) if seconds else None, information=_information(trainings),
            notes=self._pairings.clean(happenings(trainings)),
        )  # fmt: skip

    def _utility(self, u: UtilityResult, b: Baseline) -> m.Utility:
        difference = None
        if u.difference is not None:
            value, interval = u.difference
            difference = Measured(value=value, ci=[interval.low, interval.high])
        elif b.defense != NONE:
            difference = Measured(value=None, reason=u.reason or "the undefended model has no Dice to compare with")
        status = u.verdict.status if u.verdict is not None else "REVIEW"
        if b.defense == NONE or b.reason is not None:
            status = "control" if b.defense == NONE else "N/A"
        reason = u.reason or (u.verdict.reasons[0] if u.verdict is not None and u.verdict.status != "PASS" else None)
        return m.Utility(
            dice=u.dice, ci=None if u.interval is None else [u.interval.low, u.interval.high], difference=difference, n=u.n,
            status=cast(Any, status), reason=None if reason is None else sanitize(reason, known=self._pairings.known),
            hd95=u.hd95, hd95_unit=u.hd95_unit,
        )  # fmt: skip


def _information(trainings: Sequence[Mapping[str, Any]]) -> list[m.Information]:
    """Return dFIL of every seat that has one in all trainings, averaged over images and trainings."""
    seats = [
        seat for seat in (trainings[0]["information"] if trainings else {}) if all(seat in t["information"] for t in trainings)
    ]
    found = []
    for seat in seats:
        values = [v for t in trainings for v in t["information"][seat]]
        found.append(
            m.Information(
                seat=seat, dfil=Measured(value=sum(values) / len(values)),
                mse=Measured(value=sum(1 / v for v in values) / len(values)) if min(values) > 0
                else Measured(value=None, reason="nothing that the message carries depends on some of the images"),
                images=len(trainings[0]["information"][seat]),
            )
        )  # fmt: skip
    return found
