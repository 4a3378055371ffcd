"""What changed between two reports, and whether two intervals can tell the change from chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Literal, TypeVar

from leakaudit.report.base import Measured
from leakaudit.report.changes import NOTES, Changes, NumberChange, Outcome, StatusChange
from leakaudit.report.model import Baseline, Report
from leakaudit.report.pairings import Endpoint, Pairing

__all__ = ["NOTES", "Changes", "NumberChange", "Outcome", "StatusChange", "compare_reports", "difference"]

_T = TypeVar("_T")


def difference(before: Measured, after: Measured) -> Measured:
    """Return `after` minus `before` with a 95 % interval made of the two intervals (MOVER).

    With estimates a, b and intervals (la, ua), (lb, ub) the interval of d = b - a is d - sqrt((b - lb)^2 + (ua - a)^2) to
    d + sqrt((ub - b)^2 + (a - la)^2). The two runs are treated as independent, which is conservative for runs that share
    patients, whose scores go up and down together.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures", Statistics in Medicine 27.

    Args:
        before: Estimate of report A.
        after: Estimate of report B.

    Returns:
        The difference; without value, or without interval and with a reason, where A or B lacks one.
    """
    a, b = before.value, after.value
    if a is None or b is None:
        name, lacking = ("A", before) if a is None else ("B", after)
        return Measured(value=None, reason=f"{name} has no value: {lacking.reason}")
    if before.ci is None or after.ci is None:
        names = [name for name, measured in (("A", before), ("B", after)) if measured.ci is None]
        return Measured(value=b - a, reason=f"no interval in {' and '.join(names)}")
    (low_a, high_a), (low_b, high_b) = before.ci, after.ci
    # An estimate outside its own interval must not count as distance on the wrong side.
    below = math.hypot(max(0.0, b - low_b), max(0.0, high_a - a))
    above = math.hypot(max(0.0, high_b - b), max(0.0, a - low_a))
    return Measured(value=b - a, ci=[b - a - below, b - a + above])


def compare_reports(a: Report, b: Report) -> Changes:
    """Compare what two reports call by the same labels.

    Protocols, defenses, attacks and endpoints are matched by label (an endpoint also by channel, seat, level and round). What a
    label stands for is the recipe's business: `noise` may be stronger in B, and this is how to see what that changed.

    Args:
        a: The earlier report.
        b: The later report.
    """
    builder = _Builder()
    builder.baselines(a.baselines, b.baselines)
    builder.pairings(a.pairings, b.pairings)
    return Changes(
        verdict=_status("verdict", "", a.verdict.status, b.verdict.status),
        statuses=builder.statuses, dice=builder.dice, leakage=builder.leakage, only_a=builder.only_a, only_b=builder.only_b,
        compared=builder.compared, warnings=_warnings(a, b),
    )  # fmt: skip


class _Builder:
    """Collects changes while both reports are walked through."""

    def __init__(self) -> None:
        self.statuses: list[StatusChange] = []
        self.dice: list[NumberChange] = []
        self.leakage: list[NumberChange] = []
        self.only_a: list[str] = []
        self.only_b: list[str] = []
        self.compared = 0

    def baselines(self, a: list[Baseline], b: list[Baseline]) -> None:
        for x, y in self._both("baseline", a, b, lambda item: (item.protocol, item.defense)):
            where = f"{x.protocol} / {x.defense}"
            self._note("privacy", where, x.status, y.status)
            self._note("utility", where, x.utility.status, y.utility.status)
            change = self._number("Dice", (x.protocol, x.defense, None, None), _mean_dice(x), _mean_dice(y))
            self.dice.extend([change] if change else [])

    def pairings(self, a: list[Pairing], b: list[Pairing]) -> None:
        for x, y in self._both("pairing", a, b, lambda item: (item.protocol, item.defense, item.attack)):
            where = f"{x.protocol} / {x.defense} / {x.attack}"
            self._note("pairing", where, x.status, y.status)
            for e, f in self._both("endpoint", x.endpoints, y.endpoints, lambda item: (_label(item),), where):
                self._note("endpoint", f"{where} / {_label(e)}", e.status, f.status)
                change = self._number("leakage", (x.protocol, x.defense, x.attack, _label(e)), e.leakage, f.leakage)
                self.leakage.extend([change] if change else [])

    def _both(
        self, kind: str, a: Iterable[_T], b: Iterable[_T], key: Callable[[_T], tuple[str, ...]], within: str = ""
    ) -> list[tuple[_T, _T]]:
        """Return the pairs with equal keys, and note what only one side has."""
        left, right = _by_key(a, key), _by_key(b, key)
        for there, other, missing in ((left, right, self.only_a), (right, left, self.only_b)):
            names = [" / ".join(([within] if within else []) + list(key(item))) for k, item in there.items() if k not in other]
            missing.extend(f"{kind} {name}" for name in names)
        return [(item, right[k]) for k, item in left.items() if k in right]

    def _note(self, of: Literal["privacy", "utility", "pairing", "endpoint"], where: str, before: str, after: str) -> None:
        change = _status(of, where, before, after)
        self.statuses.extend([change] if change else [])

    def _number(
        self,
        quantity: Literal["leakage", "Dice"],
        place: tuple[str, str, str | None, str | None],
        before: Measured,
        after: Measured,
    ) -> NumberChange | None:
        self.compared += 1
        if before.value == after.value:
            return None
        change = difference(before, after)
        protocol, defense, attack, endpoint = place
        return NumberChange(
            quantity=quantity, protocol=protocol, defense=defense, attack=attack, endpoint=endpoint, before=before.value,
            after=after.value, difference=change, outcome=_outcome(change, rise_is_worse=quantity == "leakage"),
        )  # fmt: skip


def _by_key(items: Iterable[_T], key: Callable[[_T], tuple[str, ...]]) -> dict[Hashable, _T]:
    """Return items by key; a key that occurs again is numbered, so that nothing is dropped in silence."""
    found: dict[Hashable, _T] = {}
    for item in items:
        count = 0
        while (key(item), count) in found:
            count += 1
        found[key(item), count] = item
    return found


def _label(endpoint: Endpoint) -> str:
    details = [part for part in (endpoint.channel, endpoint.seat, endpoint.level) if part]
    details += [f"round {endpoint.round}"] if endpoint.round is not None else []
    return f"{endpoint.name} ({', '.join(details)})"


def _mean_dice(baseline: Baseline) -> Measured:
    utility = baseline.utility
    value = utility.dice.get("mean")
    if value is None:
        return Measured(value=None, reason=utility.reason or "no mean Dice")
    return Measured(value=value, ci=utility.ci)


def _outcome(change: Measured, *, rise_is_worse: bool) -> Outcome:
    if change.ci is None:
        return "not decidable"
    low, high = change.ci
    if low <= 0 <= high:
        return "not significant"
    return "worse" if (low > 0) == rise_is_worse else "better"


def _status(
    of: Literal["verdict", "privacy", "utility", "pairing", "endpoint"], where: str, before: str, after: str
) -> StatusChange | None:
    if before == after:
        return None
    worse, better = _worsens(before, after), _worsens(after, before)
    direction: Literal["worse", "better", "other"] = "worse" if worse else "better" if better else "other"
    return StatusChange(of=of, where=where, before=before, after=after, direction=direction)


def _worsens(before: str, after: str) -> bool:
    return before == "PASS" or (before == "REVIEW" and after in ("FAIL", "ERROR"))


def _warnings(a: Report, b: Report) -> list[str]:
    """Return why the two runs may not be comparable, a sentence each."""
    found = []
    if a.leakaudit_version != b.leakaudit_version:
        found.append(f"The versions of leakaudit differ: {a.leakaudit_version} and {b.leakaudit_version}.")
    if a.data.sha256 is None or b.data.sha256 is None:
        found.append("Whether both runs saw the same data is unknown: a report has no digest of its cohort.")
    elif a.data.sha256 != b.data.sha256:
        found.append("The data differ: the cohorts have different digests.")
    limits_a, limits_b = ({t.name: t.value for t in report.policy.thresholds} for report in (a, b))
    parts = [n for n in dict.fromkeys([*limits_a, *limits_b]) if limits_a.get(n) != limits_b.get(n)]
    parts += [n for n in ("required", "candidates", "require") if getattr(a.policy, n) != getattr(b.policy, n)]
    if parts:
        found.append(f"The policies differ in {', '.join(parts)}: statuses may change without any number doing so.")
    leakages = [e.leakage for report in (a, b) for p in report.pairings for e in p.endpoints]
    if any(leakage.scope.startswith("this trained model") for leakage in leakages):
        found.append(
            "Some intervals speak of one trained model only: the spread between trainings is not in them, so a significant "
            "change may be that of another training."
        )
    return found
