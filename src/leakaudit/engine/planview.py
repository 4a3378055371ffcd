"""A plan for people and programs: what would be computed, what makes no sense, and how many patients a verdict needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from leakaudit.engine.disclosure import Disclosure
from leakaudit.engine.happenings import sites_without_members, unseated
from leakaudit.engine.needs import needs
from leakaudit.engine.plan import Plan, describe
from leakaudit.engine.planting import COPIES
from leakaudit.engine.shadowing import without_recipe
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.recipes.models import NONE

__all__ = ["PlanView"]


@dataclass(frozen=True)
class PlanView:
    """A plan for people and programs."""

    plan: Plan

    def lines(self) -> list[str]:
        """Return the plan as text."""
        p = self.plan
        count = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in describe(p.split).items())
        kinds: dict[str, int] = {}
        for job in p.jobs:
            kinds[job.kind] = kinds.get(job.kind, 0) + 1
        text = [
            f"{p.recipe.name} on {p.device}: {len(p.baselines)} baselines x {p.recipe.repeats} repeat(s), "
            f"{len(p.pairings)} pairings",
            f"patients: {count}",
            "cells: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()),
        ]
        text += [f"  {line}" for line in (*self._shadows(), *self._federation())]
        policy = p.recipe.policy
        text.append(
            f"PASS needs {policy.min_patients.value:g} attacked patients (there are {len(p.split.attacked)}) and "
            f"{policy.min_repeats.value:g} repeats (there {'is' if p.recipe.repeats == 1 else 'are'} {p.recipe.repeats})"
        )
        text += [f"  N/A  {b.protocol} / {b.defense}: {self._shown(b.reason)}" for b in p.baselines if b.reason is not None]
        for pairing in p.pairings:
            name = f"{pairing.protocol} / {pairing.defense} / {pairing.attack}"
            if pairing.error is not None:
                text.append(f"  ERROR  {name}: {pairing.error}")
            else:
                why = self._shown(pairing.reason)
                text.append(f"  N/A  {name}: {why}" if why is not None else f"  run  {name}")
        text.append("what a verdict needs:")
        text += [f"  {need.line()}" for need in needs(p)]
        return [*text, *self._later()]

    def _shadows(self) -> list[str]:
        """Return one line for each set of shadow models."""
        lines = []
        for job in self.plan.jobs:
            if job.kind == "shadows":
                asked, defenses = job.spec["shadows"], job.spec["defenses"]
                without = without_recipe(defenses) if job.spec["defended"] else [d["name"] for d in defenses]
                how = f", trained without {', '.join(without)}, so that attacks with them are not adaptive" if without else ""
                lines.append(f"{asked['count']} shadow models, each on {asked['fraction']:.0%} of the patients: {job.label}{how}")
        return lines

    def _federation(self) -> list[str]:
        """Return which sites have no seat, and which leave in mid-training; hospitals of private data go by neutral names."""
        plans = {b.protocol: b.facts.extra.get("dropouts") for b in self.plan.baselines}
        left_out = unseated(self.plan)
        lines = [*([left_out] if left_out else []), *(f"{protocol}: {faults}" for protocol, faults in plans.items() if faults)]
        return [self._disclosure.text(line) for line in lines]

    def _shown(self, reason: str | None) -> str | None:
        """Return why something has no cells, as it may be shown: a defense or attack may name sites in it."""
        return None if reason is None else self._disclosure.text(reason)

    @cached_property
    def _disclosure(self) -> Disclosure:
        return Disclosure.of(self.plan)

    def _sites(self) -> dict[str, list[str]]:
        named = {"seated": list(self.plan.cohort.sites), "without_members": sites_without_members(self.plan)}
        return {what: [self._disclosure.text(site) for site in sites] for what, sites in named.items()}

    def _later(self) -> list[str]:
        """Return what may be computed after the undefended pairings are judged."""
        mine = [q for q in self.plan.pairings if q.defense == NONE and q.requires is not None]
        # Canaries are planted already: what they show is a bound, and has no control of its own.
        tells = [q for q in mine if q.requires is not None and (q.requires.canaries is None or not q.requires.canaries.fair)]
        scores = [q.attack for q in tells if self._scores(q.attack)]
        levels = [q.attack for q in mine if not self._scores(q.attack) and self._cut(q.protocol)]
        text = []
        if levels:
            names = ", ".join(dict.fromkeys(levels))
            text.append(f"  planted control: {names} once more on the shallowest level, where it does not attack that one anyway")
        if scores:
            names = ", ".join(dict.fromkeys(scores))
            text.append(f"  planted control: {names} on one more training, with the attacked patients {COPIES} times in it")
        return ["what follows where an attack finds little without defense:", *text] if text else []

    def _scores(self, attack: str) -> bool:
        choice = next(a for a in self.plan.recipe.attacks if a.label == attack)
        return "scores" in cast(AttackInfo, choice.plugin.info).evidence

    def _cut(self, protocol: str) -> bool:
        return any(b.protocol == protocol and len(b.facts.levels) > 1 for b in self.plan.baselines)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON, without patients."""
        p = self.plan
        return {
            "recipe": {"name": p.recipe.name, "sha256": p.recipe.sha256}, "device": p.device, "patients": describe(p.split),
            "sites": self._sites(),
            "cells": [{"key": j.key, "kind": j.kind, "label": j.label, "inputs": list(j.inputs)} for j in p.jobs],
            "pairings": [
                {
                    "protocol": q.protocol, "defense": q.defense, "attack": q.attack,
                    "not_applicable": self._shown(q.reason), "error": q.error,
                }
                for q in p.pairings
            ],
            "needs": [need.to_json() for need in needs(p)],
        }  # fmt: skip
