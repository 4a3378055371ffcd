"""Privacy against utility in the report: the strongest attack by kind, defenses two by two, the band, and equal utility."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

from leakaudit.engine.merge import Merged
from leakaudit.engine.merge_membership import MembershipTables
from leakaudit.engine.plan import Baseline, Plan
from leakaudit.engine.results import Judged, Results
from leakaudit.engine.stored import RESAMPLING
from leakaudit.engine.utility import patient_means
from leakaudit.recipes.models import NONE
from leakaudit.report import model as m
from leakaudit.report.base import Measured
from leakaudit.report.pairings import EndpointKind
from leakaudit.report.pairings import Strongest as Shown
from leakaudit.scoring.comparison import band, compare
from leakaudit.scoring.contenders import Compared, Contender, Difference
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.strongest import Candidate, Strongest, strongest
from leakaudit.scoring.sweeps import Setting, common_dice, leakage_at
from leakaudit.scoring.verdicts import limit_of

__all__ = ["Comparisons"]

Place = tuple[str, str]


class Comparisons:
    """What a run says about privacy against utility.

    Args:
        plan: What was planned.
        results: What was found.
        policy: Limits, the accepted loss of Dice, and the fewest repeats.
    """

    def __init__(self, plan: Plan, results: Results, policy: Policy) -> None:
        self._plan, self._results, self._policy = plan, results, policy
        self._protocols = tuple(dict.fromkeys(b.protocol for b in plan.baselines))
        self._plugins = {a.label: f"{a.plugin.distribution}/{a.plugin.info.name}" for a in plan.recipe.attacks}
        self._judged: dict[Place, list[Judged]] = {}
        for judged in results.judged:
            self._judged.setdefault((judged.pairing.protocol, judged.pairing.defense), []).append(judged)

    def strongest(self, baseline: Baseline) -> Shown | None:
        """Return the endpoint that leaks most, measured by its limit; chosen on the attacked patients, it errs upward."""
        known = [(j, e) for j in self._numbers(baseline) for e in j.result.endpoints if e.value is not None and e.name in j.merged]
        if not known:
            return None
        judged, e = max(known, key=lambda found: (found[1].value or 0.0) / limit_of(found[1], self._policy))
        kind = judged.merged[e.name].kind
        return Shown(value=e.value, ci=_ci(e.interval), kind=kind, endpoint=e.name, attack=judged.pairing.attack)

    def by_kind(self, baseline: Baseline) -> list[Shown]:
        """Return the strongest attack of each kind; for each patient it was chosen on the others."""
        return [
            Shown(
                value=found.value, ci=_ci(found.interval(seed=RESAMPLING)), kind=cast(EndpointKind, kind), attack=found.attack,
                endpoint=found.endpoint,
            )
            for kind, found in self._leakage(baseline).items()
        ]  # fmt: skip

    def not_dominated(self, baseline: Baseline) -> bool | None:
        """Return whether nothing significantly dominates a defense; None where that cannot be said."""
        return self._bands[baseline.protocol].get(baseline.defense)

    def comparisons(self) -> list[m.Comparison]:
        """Return all defenses of each protocol two by two, the undefended training among them, for each kind of leakage."""
        return [
            m.Comparison(
                protocol=protocol, kind=cast(EndpointKind, c.kind), a=c.a, b=c.b, leakage=_measured(c.leakage),
                dice=_measured(c.dice), outcome=c.outcome, reason=c.reason,
            )
            for protocol, found in self._compared.items()
            for c in found
        ]  # fmt: skip

    def equal_utility(self) -> list[m.EqualUtility]:
        """Return the swept defenses of each protocol at one Dice, for each kind of leakage that two of them can be read at.

        A sweep is the defenses of the recipe that are chains of the same plugins; the undefended training is the common end
        of all. A setting without that kind, or that an attack failed on which others withstood, is not on the curve.
        """
        return [
            found
            for protocol in self._protocols
            for kind in dict.fromkeys(k for c in self._contenders[protocol] for k in c.leakage)
            if (found := self._at_one_dice(protocol, kind)) is not None
        ]

    # Contenders -------------------------------------------------------------------------------------------------------

    def _numbers(self, baseline: Baseline) -> list[Judged]:
        """Return the pairings of a baseline that have numbers: what ended in an ERROR is no evidence."""
        found = self._judged.get((baseline.protocol, baseline.defense), [])
        return [j for j in found if j.merged and j.verdict.status != "ERROR"]

    def _leakage(self, baseline: Baseline) -> Mapping[str, Strongest]:
        return next((c.leakage for c in self._contenders[baseline.protocol] if c.name == baseline.defense), {})

    @cached_property
    def _contenders(self) -> dict[str, tuple[Contender, ...]]:
        """The trainings of each protocol that take part: every baseline that applies."""
        return {
            protocol: tuple(self._contender(b) for b in self._plan.baselines if b.protocol == protocol and b.reason is None)
            for protocol in self._protocols
        }

    def _contender(self, baseline: Baseline) -> Contender:
        kinds: dict[str, list[tuple[Judged, Merged]]] = {}
        for judged in self._numbers(baseline):
            for merged in judged.merged.values():
                # A bound on epsilon is one-sided: a smaller one says nothing of a defense.
                if merged.resolvable and merged.value is not None and merged.kind != "epsilon":
                    kinds.setdefault(merged.kind, []).append((judged, merged))
        tried = {kind: frozenset(j.pairing.attack for j, _ in found) for kind, found in kinds.items()}
        trainings = self._results.trainings[baseline.protocol, baseline.defense]
        testers, dice = patient_means(trainings) if trainings else ([], None)
        adapted = {kind for kind, found in kinds.items() if any(j.result.adaptive for j, _ in found)}
        return Contender(
            name=baseline.defense, leakage={k: strongest([_candidate(j, found) for j, found in v]) for k, v in kinds.items()},
            dice=dice if testers else None, testers=tuple(testers), tried=tried,
            excused={kind: self._excused(baseline, attacks) for kind, attacks in tried.items()},
            unadapted=frozenset() if baseline.defense == NONE else frozenset(set(kinds) - adapted),
        )  # fmt: skip

    def _excused(self, baseline: Baseline, tried: Iterable[str]) -> frozenset[str]:
        """Return the attacks that a baseline need not have withstood.

        Those that do not apply to it, and those that the recipe did not mean for it, where the same plugin attacked it under
        another label: recipes give each defense its own tuning that way.
        """
        planned = {j.pairing.attack: j for j in self._judged.get((baseline.protocol, baseline.defense), [])}
        absent = {label for label, j in planned.items() if j.pairing.reason is not None}
        used = {self._plugins[label] for label in tried}
        return frozenset(absent | {label for label, plugin in self._plugins.items() if label not in planned and plugin in used})

    # Two by two -------------------------------------------------------------------------------------------------------

    @cached_property
    def _compared(self) -> dict[str, tuple[Compared, ...]]:
        margin, repeats = self._policy.dice_margin.value, self._policy.min_repeats.value
        return {
            protocol: compare(contenders, margin=margin, repeats=repeats, seed=RESAMPLING)
            for protocol, contenders in self._contenders.items()
        }

    @cached_property
    def _bands(self) -> dict[str, dict[str, bool | None]]:
        repeats = self._policy.min_repeats.value
        return {p: band(found, self._contenders[p], repeats=repeats) for p, found in self._compared.items()}

    # Sweeps -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _sweeps(self) -> dict[str, tuple[str, ...]]:
        """Labels of the defenses that differ in parameters only, by the plugins of their chain."""
        chains: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for defense in self._plan.recipe.defenses:
            if defense.links:
                chains.setdefault(tuple((x.plugin.info.name, x.plugin.distribution) for x in defense.links), []).append(
                    defense.label
                )
        # Two plugins of one name are told apart by their distribution, which nobody wants to read otherwise.
        names = [" + ".join(name for name, _ in chain) for chain in chains]
        full = [" + ".join(f"{distribution}/{name}" for name, distribution in chain) for chain in chains]
        shown = [name if names.count(name) == 1 else whole for name, whole in zip(names, full, strict=True)]
        return {name: tuple(labels) for name, labels in zip(shown, chains.values(), strict=True)}

    def _at_one_dice(self, protocol: str, kind: str) -> m.EqualUtility | None:
        sweeps = {name: self._settings(protocol, kind, labels) for name, labels in self._sweeps.items()}
        # The undefended training and one setting are no sweep.
        known = {name: settings for name, settings in sweeps.items() if len(settings) > 2}
        at = common_dice(list(known.values()))
        if at is None:
            return None
        dice, reached = at
        points = []
        for name in (list(known)[i] for i in reached):
            found = leakage_at(known[name], dice, seed=RESAMPLING)
            leakage = Measured(value=found.value, ci=_ci(found.interval), reason=found.reason)
            points.append(m.SweepPoint(defense=name, settings=[s.label for s in known[name]], leakage=leakage))
        return m.EqualUtility(protocol=protocol, kind=cast(EndpointKind, kind), dice=dice, points=points)

    def _settings(self, protocol: str, kind: str, labels: Sequence[str]) -> list[Setting]:
        """Return the settings of a sweep, the undefended training first."""
        mine = [c for c in self._contenders[protocol] if c.name in (NONE, *labels) and kind in c.leakage and c.dice is not None]
        if not mine:
            return []
        first, top = mine[0], mine[0].leakage[kind].fair
        return [
            Setting(label=c.name, leakage=c.leakage[kind], dice=c.dice)
            for c in mine
            if c.dice is not None
            and c.testers == first.testers
            and _patients(c.leakage[kind]) == _patients(first.leakage[kind])
            and c.leakage[kind].fair.repeats == top.repeats == len(c.dice)
            and not any(c.untried(other, kind) for other in mine)
        ]


def _candidate(judged: Judged, merged: Merged) -> Candidate:
    tables = merged.tables if isinstance(merged.tables, MembershipTables) else None
    return Candidate(
        attack=judged.pairing.attack, endpoint=merged.name, patients=merged.patients, gain=merged.gain, room=merged.room,
        chance=merged.chance, rate=merged.kind == "identity",
        tables=() if tables is None else tuple((s, i, tables.strata) for s, i in zip(tables.scores, tables.member, strict=True)),
    )  # fmt: skip


def _patients(leakage: Strongest) -> tuple[str, ...]:
    return getattr(leakage.fair, "patients", ())


def _ci(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _measured(d: Difference) -> Measured:
    ci = None if d.low is None or d.high is None else [d.low, d.high]
    return Measured(value=d.value, ci=ci, reason=d.reason)
