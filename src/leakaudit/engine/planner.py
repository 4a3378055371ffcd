"""From a resolved recipe to a plan: which cells a run computes, and why a pairing has none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory
from leakaudit.cohorts.split import split_patients
from leakaudit.engine.graph import Graph, resolve_device
from leakaudit.engine.keys import environment
from leakaudit.engine.plan import Baseline, Pairing, Plan
from leakaudit.engine.planting import PLANTED, Wanted, plant, repeated
from leakaudit.engine.rows import Row
from leakaudit.engine.specs import as_json, plugin_spec
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.plugins.descriptors import DefenseInfo
from leakaudit.plugins.params import DefenseParams, ProtocolParams
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.models import NONE
from leakaudit.recipes.resolved import Choice, DefenseChoice, ResolvedRecipe
from leakaudit.threats import Needs, NotApplicable

__all__ = ["Planner", "cohort_facts", "make_plan", "worker_count"]


def cohort_facts(inventory: Inventory, split: Split) -> CohortFacts:
    """Return the public facts of the cohort that a split makes of an inventory."""
    entries = {e.patient: e for e in inventory.patients}
    members = [entries[p] for p in split.members]
    return CohortFacts(
        modalities=inventory.modalities, shape=inventory.shape, members=len(members), auxiliary=len(split.auxiliary),
        sites=tuple(sorted({e.site for e in members})), records=sum(e.records for e in members),
    )  # fmt: skip


def make_plan(recipe: ResolvedRecipe, known: tuple[Inventory, Split] | None = None) -> Plan:
    """Plan a recipe: read the dataset's inventory, split the patients, and lay out the cells.

    Args:
        recipe: The recipe.
        known: Inventory and split of an earlier plan; the dataset is then not looked at.

    Raises:
        UserError: The data cannot be used, or a protocol or defense does not fit it.
    """
    return Planner(recipe).plan(known)


@dataclass
class Planner:
    """Makes the plan of a recipe, and later adds what the judged undefended pairings ask for.

    Attributes:
        recipe: The recipe.
    """

    recipe: ResolvedRecipe
    _rows: dict[tuple[str, str], Row] = field(default_factory=dict, init=False)

    def plan(self, known: tuple[Inventory, Split] | None = None) -> Plan:
        """Return the plan; `known` as in `make_plan`.

        Raises:
            UserError: The data cannot be used, or a protocol or defense does not fit it.
        """
        recipe = self.recipe
        device = resolve_device(recipe.run.device)
        env = environment(device, recipe.run.threads, recipe.run.determinism)
        self.graph = Graph(settings=recipe.run, device=device, env=env)
        inventory, split = known or self._read()
        self.cohort = cohort_facts(inventory, split)
        self.cohort_key = self._cohort(inventory, split)
        baselines: list[Baseline] = []
        pairings: list[Pairing] = []
        for protocol in recipe.protocols:
            facts = self._facts(protocol)
            for defense in recipe.defenses:
                baseline, new = self._row(protocol, facts, defense)
                baselines.append(baseline)
                pairings += new
        return Plan(
            recipe=recipe, device=device, inventory=inventory, cohort=self.cohort, split=split,
            cohort_key=self.cohort_key, baselines=tuple(baselines), pairings=tuple(pairings), jobs=tuple(self.graph.jobs.values()),
        )  # fmt: skip

    def plant(self, plan: Plan, wanted: Sequence[Wanted]) -> Plan:
        """Return a plan of this planner with planted controls and their cells; the cells it had come first."""
        attacks = {a.label: a for a in self.recipe.attacks}
        entries = {e.patient: e.records for e in plan.inventory.patients}
        records = sum(entries[p] for p in repeated(plan.split, PLANTED))
        planted = tuple(plant(self._rows[w.protocol, NONE], attacks[w.attack], w, records) for w in wanted)
        return replace(plan, planted=planted, jobs=tuple(self.graph.jobs.values()))

    def _read(self) -> tuple[Inventory, Split]:
        dataset = import_target(self.recipe.data.plugin.info.target)(self.recipe.data.params, self.recipe.seed)
        inventory: Inventory = dataset.inventory()
        return inventory, split_patients(inventory, self.recipe.split, self.recipe.seed)

    def _cohort(self, inventory: Inventory, split: Split) -> str:
        data = self.recipe.data
        spec = {
            "dataset": plugin_spec(data.plugin, data.params), "seed": self.recipe.seed, "split": as_json(split),
            "gallery": any(e.visits > 1 for e in inventory.patients),
        }  # fmt: skip
        key = self.graph.key_of("cohort", spec, data.plugin, rooms=("cohorts", "attacks/view.py", "engine/cells/cohort.py"))
        return self.graph.add("cohort", f"cohort {data.label}", key, "cohort:run", spec, [])

    def _facts(self, protocol: Choice) -> ProtocolFacts:
        try:
            return cast(ProtocolParams, protocol.params).facts(self.cohort)
        except ValueError as error:
            raise UserError(f"protocols: {protocol.label}: {error}") from error

    # Rows and pairings ------------------------------------------------------------------------------------------------

    def _row(self, protocol: Choice, facts: ProtocolFacts, defense: DefenseChoice) -> tuple[Baseline, list[Pairing]]:
        names: dict[str, Any] = {"protocol": protocol.label, "defense": defense.label}
        needs, reason = self._needs(facts, defense)
        attacks = [a for a in self.recipe.attacks if a.applies(protocol.label, defense.label)]
        if reason is not None:
            skipped = [Pairing(**names, attack=a.label, reason=reason) for a in attacks]
            return Baseline(**names, facts=facts, reason=reason), skipped
        links = [_link(link, need) for link, need in zip(defense.links, needs, strict=True)]
        poisson = [need for need in needs if need.sampling == "poisson"]
        unit = next((need.unit for need in needs if need.unit), None)
        sampling = {"kind": "poisson", "unit": poisson[0].unit or "record"} if poisson else {"kind": "shuffle", "unit": "record"}
        base = {
            "cohort": self.cohort_key, "protocol": plugin_spec(protocol.plugin, protocol.params),
            "cohort_facts": as_json(self.cohort), "defenses": links, "sampling": sampling, "seed": self.recipe.seed,
        }  # fmt: skip
        plugins = (protocol.plugin, *(link.plugin for link in defense.links))
        seats = tuple(s.id for s in facts.seats if any(s.role in need.seats for need in needs))
        row = Row(self.graph, self.recipe, self.cohort, self.cohort_key, protocol.label, defense.label, facts, base, plugins)
        self._rows[protocol.label, defense.label] = row
        trains = tuple(row.train(repeat) for repeat in range(self.recipe.repeats))
        pairings = [row.pairing(a, trains, seats) for a in attacks]
        return Baseline(**names, facts=facts, trains=trains, seats=seats, unit=unit), pairings

    def _needs(self, facts: ProtocolFacts, defense: DefenseChoice) -> tuple[list[Needs], str | None]:
        """Return what each link of a defense needs, or why the defense has no meaning here.

        Raises:
            UserError: Links of a chain contradict each other.
        """
        found = []
        for link in defense.links:
            need = cast(DefenseParams, link.params).needs(facts)
            if isinstance(need, NotApplicable):
                return [], need.reason
            found.append(need)
        coupled = [link.label for link, n in zip(defense.links, found, strict=True) if n.adds_coupled_loss]
        strict = [link.label for link, n in zip(defense.links, found, strict=True) if n.per_sample_loss]
        if coupled and strict:
            raise UserError(
                f"defenses: {defense.label}: {coupled[0]!r} adds a loss that mixes the patients of a batch, which voids the "
                f"guarantee of {strict[0]!r}. Use one of them."
            )
        _check_order(defense, found, facts)
        if len({n.unit for n in found if n.sampling == "poisson"}) > 1:
            raise UserError(f"defenses: {defense.label}: its parts protect different units; give them the same unit.")
        if strict and facts.normalization == "batch":
            return [], f"batch normalization mixes the patients of a batch, which voids the guarantee of {strict[0]!r}"
        return found, None


def _check_order(defense: DefenseChoice, needs: Sequence[Needs], facts: ProtocolFacts) -> None:
    """Check that nothing acts on what a defense sends that must be the last (`Needs.last`).

    Raises:
        UserError: A later part of the chain would alter it on its way out, or an earlier one where it arrives.
    """
    acts = [
        set(need.channels or cast(DefenseInfo, link.plugin.info).channels)
        for link, need in zip(defense.links, needs, strict=True)
    ]  # fmt: skip
    for place, last in enumerate(needs):
        if not last.last:
            continue
        name = defense.links[place].label
        receivers = {flow.receiver for flow in facts.flows if flow.channel in acts[place]}
        for other, need in enumerate(needs):
            shared = sorted(acts[place] & acts[other])
            if other > place and shared and set(need.seats) & set(last.seats):
                raise UserError(
                    f"defenses: {defense.label}: {defense.links[other].label!r} stands after {name!r} and would alter what it "
                    f"sends on the channel {shared[0]!r}, which nobody could undo. Put {name!r} last."
                )
            where = sorted(set(need.seats) & receivers)
            if other < place and shared and where:
                raise UserError(
                    f"defenses: {defense.label}: {defense.links[other].label!r} acts at the {where[0]} on the channel "
                    f"{shared[0]!r}, where what {name!r} sends arrives still protected. Use one of them."
                )


def _link(link: Choice, need: Needs) -> dict[str, Any]:
    info = cast(DefenseInfo, link.plugin.info)
    return plugin_spec(
        link.plugin, link.params, seats=list(need.seats), stochastic=info.stochastic, detector=info.detector
    )  # fmt: skip


def worker_count(workers: int | str, threads: int) -> int:
    """Return how many cells run at a time: `"auto"` shares the cores this process may use among them."""
    if workers != "auto":
        return int(workers)
    return max(1, len(os.sched_getaffinity(0)) // threads)
