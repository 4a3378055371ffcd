"""Endpoints of the report: leakage with its spread, its own controls, and scores in their own units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leakaudit.engine.merge import Merged
from leakaudit.engine.merge_membership import FEWEST
from leakaudit.engine.raw import Raw
from leakaudit.engine.results import Judged
from leakaudit.recipes.models import NONE
from leakaudit.report import pairings as mp
from leakaudit.report.base import Measured
from leakaudit.report.privacy import pseudonym
from leakaudit.scoring.controls import ControlResult, rho
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.rates import clopper_pearson, tail_bound
from leakaudit.scoring.results import EndpointResult
from leakaudit.scoring.verdicts import SOME, limit_of

__all__ = ["EndpointWriter"]


class EndpointWriter:
    """Writes endpoints into the report's form.

    Args:
        policy: What counts as acceptable.
        salt: Random bytes of this run, for pseudonyms.
        per_patient: Whether leakage is shown by patient.
    """

    def __init__(self, policy: Policy, salt: bytes, *, per_patient: bool) -> None:
        self._policy, self._salt, self._by_patient = policy, salt, per_patient

    def endpoint(self, judged: Judged, e: EndpointResult) -> mp.Endpoint:
        """Return one endpoint of a pairing."""
        merged = judged.merged[e.name]
        limit = limit_of(e, self._policy)
        return mp.Endpoint(
            name=e.name, kind=merged.kind, channel=e.channel, seat=merged.seat, level=merged.level, round=merged.round,
            status=_status(judged, e, limit), limit=limit, leakage=self._leakage(merged, e),
            controls=self.controls(e, defended=judged.pairing.defense != NONE), blind=_blind(e), confounded=e.confounded,
            raw={k: _raw(r) for k, r in merged.raw.items()},
        )  # fmt: skip

    def controls(self, e: EndpointResult, *, defended: bool) -> mp.Controls:
        """Return an endpoint's own controls."""
        ratio = rho(e.interval.high, e.positive.low) if defended and e.interval is not None and e.positive is not None else None
        return mp.Controls(
            positive=control(e.positive, e.patients), negative=control(e.negative, e.patients),
            planted=_planted(e), evidence_shuffle=_shuffle(e), ratio=ratio,
        )  # fmt: skip

    def _leakage(self, merged: Merged, e: EndpointResult) -> mp.Leakage:
        one, many = ("canary", "canaries") if merged.kind == "epsilon" else ("patient", "patients")
        unit = many if merged.n != 1 else one
        few = e.repeats < self._policy.min_repeats.value
        scope = "this trained model" if few else f"{e.repeats} trainings"
        reason = None if e.value is not None else "chance and full recovery are too close together for this metric to resolve"
        per_patient = [
            mp.PatientLeakage(patient=pseudonym(self._salt, p), value=v)
            for p, v in zip(merged.patients, e.per_patient, strict=True)
        ] if self._by_patient and e.per_patient else []  # fmt: skip
        return mp.Leakage(
            value=e.value, ci=_ci(e.interval) if e.value is not None else None, reason=reason,
            scope=f"{scope}, {merged.n} {unit}", chance=merged.chance, chance_name=merged.chance_name, anchor=merged.anchor,
            worst=_worst(e), patients=merged.n, quantiles=_quantiles(e.per_patient), above=self._above(e),
            attack_seeds=e.attack_seeds, seed_spread=e.seed_spread, per_patient=per_patient,
        )  # fmt: skip

    def _above(self, e: EndpointResult) -> Measured | None:
        """Return the share of patients above patient_max; null where patients have no leakage of their own."""
        n = len(e.per_patient)
        if not n:
            return None
        hits = sum(value > self._policy.patient_max.value for value in e.per_patient)
        return Measured(value=hits / n, ci=_ci(clopper_pearson(hits, n)) if n >= FEWEST else None)


def control(found: ControlResult | None, n: int) -> mp.Control | None:
    """Return a control in the report's form; `n` is its number of patients where it does not say so itself."""
    if found is None:
        return None
    patients = n if found.patients is None else found.patients
    ci = [found.low, found.high]
    return mp.Control(value=found.value, ci=ci, criterion=found.criterion, passed=found.passed, n=patients)


def _planted(e: EndpointResult) -> mp.Control | None:
    """Return the planted control, or why there is none although one was called for."""
    if e.planted is None and e.no_planted is not None:
        return mp.Control(value=None, reason=e.no_planted, criterion="the same attack on a leak planted on purpose", passed=None)
    return control(e.planted, e.patients)


def _status(judged: Judged, e: EndpointResult, limit: float) -> Any:
    if judged.pairing.defense == NONE:
        return "control"
    if e.fail_low is not None and e.fail_low > limit and e.patients >= SOME:
        return "FAIL"
    return judged.verdict.status if judged.verdict.status in ("PASS", "ERROR") else "REVIEW"


def _worst(e: EndpointResult) -> mp.Worst | None:
    if e.worst is None:
        return None
    bound = tail_bound(len(e.per_patient))
    return mp.Worst(value=e.worst, bound=bound, shuffled=e.shuffled_worst, limit=e.patient_bar, above=e.above_bar)


def _quantiles(values: Sequence[float]) -> mp.Quantiles | None:
    if len(values) < SOME:
        return None
    low, quarter, median, three, high = (float(q) for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    return mp.Quantiles(low=low, quarter=quarter, median=median, three_quarters=three, high=high)


def _shuffle(e: EndpointResult) -> mp.ShuffleTest | None:
    test = e.exchanged
    if test is None:
        return None
    return mp.ShuffleTest(p=test.p, adjusted=e.adjusted, floor=test.floor, possible=test.possible, n=test.patients)


def _blind(e: EndpointResult) -> Measured | None:
    if e.blind is None:
        return None
    value, interval = e.blind
    return Measured(value=value, ci=_ci(interval))


def _raw(raw: Raw) -> mp.RawValue:
    ci = _ci(raw.interval) if raw.value is not None else None
    return mp.RawValue(value=raw.value, unit=raw.unit, n=raw.n, reason=raw.reason, ci=ci)


def _ci(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
