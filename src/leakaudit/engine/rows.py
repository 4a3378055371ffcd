"""One protocol under one defense: its trainings, and for every attack the cells that lead to a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from leakaudit.engine.graph import Graph
from leakaudit.engine.plan import Pairing
from leakaudit.engine.reasons import sentence
from leakaudit.engine.shadowing import contradiction, obstacle
from leakaudit.engine.specs import as_json, plugin_spec
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import AttackParams
from leakaudit.recipes.resolved import AttackChoice, ResolvedRecipe
from leakaudit.threats import NotApplicable, Requires

__all__ = ["Row"]


@dataclass
class Row:
    """The cells of one protocol under one defense.

    Attributes:
        graph: Where cells are added.
        recipe: The recipe.
        cohort: Facts of the cohort.
        cohort_key: Cell of the cohort.
        protocol: Label.
        defense: Label.
        facts: The protocol's facts.
        base: What the specs of all its trainings share.
        plugins: Protocol and defenses, whose code enters the keys.
    """

    graph: Graph
    recipe: ResolvedRecipe
    cohort: CohortFacts
    cohort_key: str
    protocol: str
    defense: str
    facts: ProtocolFacts
    base: dict[str, Any]
    plugins: tuple[Plugin, ...]

    def train(
        self, repeat: int, attacker: tuple[AttackChoice, dict[str, Any]] | None = None, planted: Mapping[str, Any] | None = None
    ) -> str:
        """Add a training; with an attacker that alters it, one of its own.

        Args:
            repeat: Which one.
            attacker: An attack that alters it, and the attack's spec.
            planted: What a planted training has in its spec beyond the audited one.
        """
        spec = {**self.base, "repeat": repeat}
        plugins, label, inputs = self.plugins, f"{self.protocol}/{self.defense}", [self.cohort_key]
        if attacker is not None:
            choice, facts = attacker
            plugins, label = (*plugins, choice.plugin), f"{label} with {choice.label}"
            if set(facts["threat"]["alters"]) & {"cohort", "task"}:
                spec["prepare"] = self._prepare(choice, facts, spec, label)
                inputs.append(spec["prepare"])
            spec["attacker"] = facts
        # After `prepare`, which is the same: canaries are crafted for the audited training.
        spec |= planted or {}
        apart = attacker is not None and "replies" in attacker[1]["threat"]["alters"] and self._apart(attacker[1], spec)
        label += " planted" if planted else f" (repeat {repeat + 1})" if self.recipe.repeats > 1 else ""
        key = self.graph.key_of("train", spec, *plugins)
        return self.graph.add("train", label, key, "train:run", {**spec, "also_record": []}, inputs, memory_mb=1200, isolated=apart)

    def _apart(self, facts: dict[str, Any], spec: dict[str, Any]) -> bool:
        """Note in a cell's spec whether the party that an attack plays gets a process of its own, and return it."""
        strict = bool(facts["plays_in_training"]) and self.recipe.run.isolation == "strict"
        if strict:
            spec["isolation"] = "strict"
        return strict

    def _prepare(self, choice: AttackChoice, facts: dict[str, Any], spec: dict[str, Any], label: str) -> str:
        whole = {**spec, "attacker": facts}
        key = self.graph.key_of("prepare", whole, *self.plugins, choice.plugin)
        inputs = [self.cohort_key]
        return self.graph.add("prepare", label, key, "attack:prepare", whole, inputs, isolated=True)

    def pairing(self, choice: AttackChoice, trains: tuple[str, ...], defended: tuple[str, ...]) -> Pairing:
        """Add the cells of one attack on this row."""
        names: dict[str, Any] = {"protocol": self.protocol, "defense": self.defense, "attack": choice.label}
        try:
            requires = self.requires(choice)
        except Exception as error:  # noqa: BLE001 - a broken attack must not take the others along
            return Pairing(**names, error=f"The attack cannot say what it needs: {sentence(error)}")
        if isinstance(requires, NotApplicable):
            return Pairing(**names, reason=requires.reason)
        why = obstacle(self.facts, self.base["protocol"]) if requires.shadows is not None else None
        if why is not None:
            return Pairing(**names, error=f"The attack needs shadow models, {why}.")
        facts = plugin_spec(choice.plugin, choice.params) | as_json(requires)
        attacked, attacks, scores = [], [], []
        for repeat, honest in enumerate(trains):
            train = self.train(repeat, (choice, facts)) if requires.threat.alters else honest
            for seed in range(choice.seeds):
                key, score = self.attack(choice, requires, train, repeat, seed)
                attacked.append(train)
                attacks.append(key)
                scores.append(score)
        return Pairing(
            **names, requires=requires, trains=tuple(attacked), attacks=tuple(attacks), scores=tuple(scores), seeds=choice.seeds,
            defended=defended,
        )  # fmt: skip

    def attack(self, choice: AttackChoice, requires: Requires, train: str, repeat: int, seed: int = 0) -> tuple[str, str]:
        """Add recording, attack and score of one training, and return the keys of the last two.

        Args:
            choice: The attack.
            requires: What it needs.
            train: The training that is attacked.
            repeat: Which repeat that is.
            seed: Which run of the attack on it.
        """
        facts = plugin_spec(choice.plugin, choice.params) | as_json(requires)
        record, shadows = self._record(choice, requires, facts, train), self._shadows(requires, train)
        key = self._attack(choice, facts, train, record, repeat, seed, shadows)
        return key, self._score(requires, key, train)

    def requires(self, choice: AttackChoice) -> Requires | NotApplicable:
        """Return what an attack needs here, or why it has no meaning here.

        Raises:
            TypeError: It does not say.
            ValueError: It contradicts itself.
        """
        requires = cast(AttackParams, choice.params).requires(self.facts)
        if isinstance(requires, NotApplicable):
            return requires
        if not isinstance(requires, Requires):
            raise TypeError(f"requires() returned a {type(requires).__name__}; expected Requires or NotApplicable")
        if requires.canaries is not None and "cohort" not in requires.threat.alters:
            raise ValueError("it asks for canaries, but its threat model does not alter 'cohort'")
        if requires.canaries is not None and requires.canaries.form == "gradients" and not requires.canaries.fair:
            raise ValueError(
                "gradient canaries are nobody whose membership could be told; they bound epsilon, which needs fair coins"
            )
        wrong = contradiction(requires)
        if wrong is not None:
            raise ValueError(wrong)
        threat = requires.threat
        visible = self.facts.sees(threat.plays)
        unseen = [c for c in threat.channels if c not in visible]
        if unseen:
            return NotApplicable(reason=f"{' and '.join(threat.plays)} sees no {unseen[0]!r} channel in {self.facts.protocol}")
        if requires.plays_in_training and not self.facts.played(threat.plays):
            return NotApplicable(reason=f"{self.facts.protocol} has no {' or '.join(threat.plays)} to play")
        needs_own = threat.auxiliary in ("same", "shifted", "noise")
        if needs_own and not self.cohort.auxiliary:
            return NotApplicable(reason="it needs auxiliary patients, and the split gives the adversary none")
        return requires

    def _record(self, choice: AttackChoice, requires: Requires, facts: dict[str, Any], train: str) -> str | None:
        """Add the recording of an attack: written by the training itself where nobody rides along."""
        rider = requires.plays_in_training and "replies" not in requires.threat.alters
        if not requires.taps and not rider:
            return None
        taps = [as_json(t) for t in requires.taps]
        part = {"train_key": train, "taps": taps} | ({"attacker": facts} if rider else {})
        apart = self._apart(facts, part)
        key = self.graph.key_of("record", part, *((choice.plugin,) if rider else ()))
        job = self.graph.jobs[train]
        if not rider:
            wanted = job.spec["also_record"]
            if all(r["key"] != key for r in wanted):
                wanted.append({"key": key, "taps": taps})
        spec = {k: v for k, v in job.spec.items() if k not in ("also_record", "runner")} | part
        inputs = [*job.inputs, train]
        return self.graph.add(
            "record", f"{job.label} for {choice.label}", key, "train:record", spec, inputs, memory_mb=1200, isolated=apart
        )

    def _shadows(self, requires: Requires, train: str) -> str | None:
        """Add shadow models of a training; those of one row are the same for all attacks that ask for the same."""
        if requires.shadows is None:
            return None
        job, threat = self.graph.jobs[train], requires.threat
        # Not the attack: what it answers in training reaches no shadow model, and what it crafted is in `prepare`.
        apart = ("also_record", "runner", "attacker", "isolation")
        spec = {k: v for k, v in job.spec.items() if k not in apart} | {
            "shadows": as_json(requires.shadows), "auxiliary": threat.auxiliary, "defended": "defense" in threat.knows,
        }  # fmt: skip
        key = self.graph.key_of("shadows", spec, *self.plugins)
        label = f"{self.protocol}/{self.defense} on {requires.shadows.pool}" + (" planted" if spec.get("planted") else "")
        label += f" (repeat {spec['repeat'] + 1})" if self.recipe.repeats > 1 else ""
        return self.graph.add("shadows", label, key, "shadows:run", spec, [*job.inputs], memory_mb=2500)

    def _attack(
        self, choice: AttackChoice, facts: dict[str, Any], train: str, record: str | None, repeat: int, seed: int,
        shadows: str | None = None,
    ) -> str:  # fmt: skip
        job = self.graph.jobs[train]
        spec = {
            **{k: v for k, v in job.spec.items() if k not in ("also_record", "runner")}, "attacker": facts, "train_key": train,
            "record_key": record, "repeat": repeat,
        }  # fmt: skip
        if shadows is not None:
            spec["shadows_key"] = shadows
        if seed:  # the first run has the key that it has alone
            spec["attack_seed"] = seed
        key = self.graph.key_of("attack", spec, choice.plugin, *self.plugins)
        inputs = [*job.inputs, train, *([record] if record else []), *([shadows] if shadows else [])]
        label = f"{job.label} by {choice.label}" + (f" (seed {seed + 1})" if choice.seeds > 1 else "")
        return self.graph.add("attack", label, key, "attack:run", spec, inputs, isolated=True, memory_mb=1000)

    def _score(self, requires: Requires, attack: str, train: str) -> str:
        played = self.facts.played(requires.threat.plays)
        # A site holds images of its own patients alone, which say nothing of the others.
        held = {m for s in played if (seat := self.facts.seat(s)).site is None for m in seat.modalities}
        spec = {
            "attack_key": attack, "cohort": self.cohort_key, "threat": as_json(requires.threat), "played": list(played),
            "held": [m for m in self.cohort.modalities if m in held],
            "prepare": self.graph.jobs[train].spec.get("prepare"),
            "canaries": None if requires.canaries is None else as_json(requires.canaries),
        }  # fmt: skip
        key = self.graph.key_of("score", spec, rooms=("engine", "scoring", "cohorts"))
        job = self.graph.jobs[attack]
        inputs = [self.cohort_key, attack, *([spec["prepare"]] if spec["prepare"] else [])]
        return self.graph.add("score", f"{job.label}", key, "score:run", spec, inputs, memory_mb=800)
