"""From a resolved recipe to cells: which trainings, recordings, attacks and scores, with keys, and why a pairing has none."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory
from leakaudit.cohorts.split import split_patients
from leakaudit.engine.jobs import Job
from leakaudit.engine.keys import digest, environment
from leakaudit.engine.reasons import sentence
from leakaudit.engine.specs import as_json, plugin_spec
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import AttackParams, DefenseParams, ProtocolParams
from leakaudit.plugins.sources import source_digest
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.resolved import AttackChoice, Choice, DefenseChoice, ResolvedRecipe
from leakaudit.threats import Needs, NotApplicable, Requires

__all__ = ["Baseline", "Pairing", "Plan", "make_plan"]

_FOREVER = 30 * 24 * 3600.0
_CELLS = "leakaudit.engine.cells."
_ROOMS = ("attacks", "cohorts", "defenses", "engine", "models", "plugins", "protocols", "wire")
"""Rooms whose code decides a cell's numbers; scoring is added for score cells, so that metrics change without attacking."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One protocol under one defense.

    Attributes:
        protocol: Label.
        defense: Label.
        facts: The protocol's facts.
        trains: Key of the training of each repeat; empty where the defense does not apply.
        reason: Why it does not apply.
        seats: Seats that carry the defense.
        unit: Unit of its guarantee, if it makes one.
    """

    protocol: str
    defense: str
    facts: ProtocolFacts
    trains: tuple[str, ...] = ()
    reason: str | None = None
    seats: tuple[str, ...] = ()
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """One attack on one baseline.

    Attributes:
        protocol: Label.
        defense: Label.
        attack: Label.
        requires: What it needs, None where it does not apply.
        trains: Training of each repeat that was attacked (an altered one where the attack alters it).
        attacks: Attack cell of each repeat.
        scores: Score cell of each repeat.
        reason: Why it does not apply.
        error: Why it cannot be planned, where the attack itself is broken.
        defended: Seats that carry the defense.
    """

    protocol: str
    defense: str
    attack: str
    requires: Requires | None = None
    trains: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    reason: str | None = None
    error: str | None = None
    defended: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a run will do.

    Attributes:
        recipe: The recipe.
        device: Device that cells use.
        inventory: What the dataset holds.
        cohort: Facts of the cohort.
        split: Who is what.
        cohort_key: Cell of the cohort.
        baselines: Protocols x defenses.
        pairings: Protocols x defenses x attacks.
        jobs: Cells to compute, each once.
    """

    recipe: ResolvedRecipe
    device: str
    inventory: Inventory
    cohort: CohortFacts
    split: Split
    cohort_key: str
    baselines: tuple[Baseline, ...]
    pairings: tuple[Pairing, ...]
    jobs: tuple[Job, ...]


def resolve_device(device: str) -> str:
    """Return the device for `"auto"` without importing torch: CUDA where the driver and a CUDA build are present."""
    if device != "auto":
        return device
    return "cuda" if Path("/dev/nvidiactl").exists() and not version("torch").endswith("+cpu") else "cpu"


@functools.cache
def core_digest(*rooms: str) -> str:
    """Return the SHA-256 of the sources of some of leakaudit's rooms."""
    total = hashlib.sha256()
    root = Path(str(files("leakaudit")))
    for room in (*sorted(rooms), "facts.py", "threats.py"):
        path = root / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def cohort_facts(inventory: Inventory, split: Split) -> CohortFacts:
    """Return the public facts of the cohort that a split makes of an inventory."""
    entries = {e.patient: e for e in inventory.patients}
    members = [entries[p] for p in split.members]
    return CohortFacts(
        modalities=inventory.modalities, shape=inventory.shape, members=len(members), auxiliary=len(split.auxiliary),
        sites=tuple(sorted({e.site for e in members})), records=sum(e.records for e in members),
    )  # fmt: skip


def make_plan(recipe: ResolvedRecipe) -> Plan:
    """Plan a recipe: read the dataset's inventory, split the patients, and lay out the cells.

    Raises:
        UserError: The data cannot be used, or a protocol or defense does not fit it.
    """
    return _Planner(recipe).plan()


@dataclass
class _Planner:
    recipe: ResolvedRecipe
    jobs: dict[str, Job] = field(default_factory=dict)

    def plan(self) -> Plan:
        recipe = self.recipe
        self.device = resolve_device(recipe.run.device)
        dataset = import_target(recipe.data.plugin.info.target)(recipe.data.params, recipe.seed)
        inventory: Inventory = dataset.inventory()
        split = split_patients(inventory, recipe.split, recipe.seed)
        self.cohort = cohort_facts(inventory, split)
        self.env = environment(self.device, recipe.run.threads, recipe.run.determinism)
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
            recipe=recipe, device=self.device, inventory=inventory, cohort=self.cohort, split=split,
            cohort_key=self.cohort_key, baselines=tuple(baselines), pairings=tuple(pairings), jobs=tuple(self.jobs.values()),
        )  # fmt: skip

    # Cells ------------------------------------------------------------------------------------------------------------

    def _add(self, kind: str, label: str, key: str, runner: str, spec: dict[str, Any], inputs: list[str], **extra: Any) -> str:
        settings = self.recipe.run
        whole = {
            **spec, "runner": _CELLS + runner, "device": self.device, "threads": settings.threads,
            "deterministic": settings.determinism, "precision": settings.precision,
        }  # fmt: skip
        if key not in self.jobs:
            self.jobs[key] = Job(
                key=key, kind=kind, label=label, spec=whole, inputs=tuple(inputs), cpus=settings.threads,
                gpus=1 if self.device != "cpu" and kind in ("train", "record", "attack") else 0,
                wall_s=settings.cell_timeout_s or _FOREVER, environment=digest(self.env), **extra,
            )  # fmt: skip
        return key

    def _key(self, kind: str, spec: dict[str, Any], *plugins: Plugin, rooms: tuple[str, ...] = _ROOMS) -> str:
        sources = {p.distribution: source_digest(p.distribution) for p in plugins if p.third_party or p.distribution != "leakaudit"}
        facts = {"environment": self.env, "precision": self.recipe.run.precision}
        return digest({"kind": kind, "spec": spec, "sources": sources, "core": core_digest(*rooms), **facts})

    def _cohort(self, inventory: Inventory, split: Split) -> str:
        data = self.recipe.data
        spec = {
            "dataset": plugin_spec(data.plugin, data.params), "seed": self.recipe.seed, "split": as_json(split),
            "gallery": any(e.visits > 1 for e in inventory.patients),
        }  # fmt: skip
        key = self._key("cohort", spec, data.plugin, rooms=("cohorts", "attacks/view.py", "engine/cells/cohort.py"))
        return self._add("cohort", f"cohort {data.label}", key, "cohort:run", spec, [])

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
        links = [
            plugin_spec(link.plugin, link.params, seats=list(need.seats), stochastic=getattr(link.plugin.info, "stochastic", False))
            for link, need in zip(defense.links, needs, strict=True)
        ]
        poisson = [need for need in needs if need.sampling == "poisson"]
        unit = next((need.unit for need in needs if need.unit), None)
        sampling = {"kind": "poisson", "unit": unit or "record"} if poisson else {"kind": "shuffle", "unit": "record"}
        base = {
            "cohort": self.cohort_key, "protocol": plugin_spec(protocol.plugin, protocol.params),
            "cohort_facts": as_json(self.cohort), "defenses": links, "sampling": sampling, "seed": self.recipe.seed,
        }  # fmt: skip
        plugins = (protocol.plugin, *(link.plugin for link in defense.links))
        seats = tuple(s.id for s in facts.seats if any(s.role in need.seats for need in needs))
        row = _Row(self, protocol.label, defense.label, facts, base, plugins)
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
        if len({n.unit for n in found if n.sampling == "poisson"}) > 1:
            raise UserError(f"defenses: {defense.label}: its parts protect different units; give them the same unit.")
        if strict and facts.normalization == "batch":
            return [], f"batch normalization mixes the patients of a batch, which voids the guarantee of {strict[0]!r}"
        return found, None


@dataclass
class _Row:
    """The cells of one protocol under one defense."""

    planner: _Planner
    protocol: str
    defense: str
    facts: ProtocolFacts
    base: dict[str, Any]
    plugins: tuple[Plugin, ...]

    def train(self, repeat: int, attacker: tuple[AttackChoice, dict[str, Any]] | None = None) -> str:
        """Add a training; with an attacker that alters it, one of its own."""
        spec = {**self.base, "repeat": repeat}
        plugins, label, inputs = self.plugins, f"{self.protocol}/{self.defense}", [self.planner.cohort_key]
        if attacker is not None:
            choice, facts = attacker
            plugins, label = (*plugins, choice.plugin), f"{label} with {choice.label}"
            if set(facts["threat"]["alters"]) & {"cohort", "task"}:
                spec["prepare"] = self._prepare(choice, facts, spec, label)
                inputs.append(spec["prepare"])
            spec["attacker"] = facts
        apart = attacker is not None and "replies" in attacker[1]["threat"]["alters"] and self._apart(attacker[1], spec)
        label += f" (repeat {repeat + 1})" if self.planner.recipe.repeats > 1 else ""
        key = self.planner._key("train", spec, *plugins)
        return self.planner._add(
            "train", label, key, "train:run", {**spec, "also_record": []}, inputs, memory_mb=1200, isolated=apart
        )

    def _apart(self, facts: dict[str, Any], spec: dict[str, Any]) -> bool:
        """Note in a cell's spec whether the party that an attack plays gets a process of its own, and return it."""
        strict = bool(facts["plays_in_training"]) and self.planner.recipe.run.isolation == "strict"
        if strict:
            spec["isolation"] = "strict"
        return strict

    def _prepare(self, choice: AttackChoice, facts: dict[str, Any], spec: dict[str, Any], label: str) -> str:
        whole = {**spec, "attacker": facts}
        key = self.planner._key("prepare", whole, *self.plugins, choice.plugin)
        inputs = [self.planner.cohort_key]
        return self.planner._add("prepare", label, key, "attack:prepare", whole, inputs, isolated=True)

    def pairing(self, choice: AttackChoice, trains: tuple[str, ...], defended: tuple[str, ...]) -> Pairing:
        """Add the cells of one attack on this row."""
        names: dict[str, Any] = {"protocol": self.protocol, "defense": self.defense, "attack": choice.label}
        try:
            requires = self._requires(choice)
        except Exception as error:  # noqa: BLE001 - a broken attack must not take the others along
            return Pairing(**names, error=f"The attack cannot say what it needs: {sentence(error)}")
        if isinstance(requires, NotApplicable):
            return Pairing(**names, reason=requires.reason)
        facts = plugin_spec(choice.plugin, choice.params) | as_json(requires)
        attacked, attacks, scores = [], [], []
        for repeat, honest in enumerate(trains):
            train = self.train(repeat, (choice, facts)) if requires.threat.alters else honest
            record = self._record(choice, requires, facts, train)
            key = self._attack(choice, facts, train, record, repeat)
            attacked.append(train)
            attacks.append(key)
            scores.append(self._score(choice, requires, key, train))
        return Pairing(
            **names, requires=requires, trains=tuple(attacked), attacks=tuple(attacks), scores=tuple(scores), defended=defended
        )

    def _requires(self, choice: AttackChoice) -> Requires | NotApplicable:
        requires = cast(AttackParams, choice.params).requires(self.facts)
        if isinstance(requires, NotApplicable):
            return requires
        if not isinstance(requires, Requires):
            raise TypeError(f"requires() returned a {type(requires).__name__}; expected Requires or NotApplicable")
        if requires.canaries is not None and "cohort" not in requires.threat.alters:
            raise ValueError("it asks for canaries, but its threat model does not alter 'cohort'")
        threat = requires.threat
        visible = self.facts.sees(threat.plays)
        unseen = [c for c in threat.channels if c not in visible]
        if unseen:
            return NotApplicable(reason=f"{' and '.join(threat.plays)} sees no {unseen[0]!r} channel in {self.facts.protocol}")
        if requires.plays_in_training and not self.facts.played(threat.plays):
            return NotApplicable(reason=f"{self.facts.protocol} has no {' or '.join(threat.plays)} to play")
        if requires.shadows is not None:
            return NotApplicable(reason="it needs shadow models, which this version does not train")
        needs_own = threat.auxiliary in ("same", "shifted", "noise")
        if needs_own and not self.planner.cohort.auxiliary:
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
        key = self.planner._key("record", part, *((choice.plugin,) if rider else ()))
        job = self.planner.jobs[train]
        if not rider:
            wanted = job.spec["also_record"]
            if all(r["key"] != key for r in wanted):
                wanted.append({"key": key, "taps": taps})
        spec = {k: v for k, v in job.spec.items() if k not in ("also_record", "runner")} | part
        inputs = [*job.inputs, train]
        return self.planner._add(
            "record", f"{job.label} for {choice.label}", key, "train:record", spec, inputs, memory_mb=1200, isolated=apart
        )

    def _attack(self, choice: AttackChoice, facts: dict[str, Any], train: str, record: str | None, repeat: int) -> str:
        job = self.planner.jobs[train]
        spec = {
            **{k: v for k, v in job.spec.items() if k not in ("also_record", "runner")}, "attacker": facts, "train_key": train,
            "record_key": record, "repeat": repeat,
        }  # fmt: skip
        key = self.planner._key("attack", spec, choice.plugin, *self.plugins)
        inputs = [*job.inputs, train, *([record] if record else [])]
        label = f"{job.label} by {choice.label}"
        return self.planner._add("attack", label, key, "attack:run", spec, inputs, isolated=True, memory_mb=1000)

    def _score(self, choice: AttackChoice, requires: Requires, attack: str, train: str) -> str:
        played = self.facts.played(requires.threat.plays)
        held = {m for s in played for m in self.facts.seat(s).modalities}
        spec = {
            "attack_key": attack, "cohort": self.planner.cohort_key, "threat": as_json(requires.threat), "played": list(played),
            "held": [m for m in self.planner.cohort.modalities if m in held],
            "prepare": self.planner.jobs[train].spec.get("prepare"),
        }  # fmt: skip
        key = self.planner._key("score", spec, rooms=("engine", "scoring", "cohorts"))
        job = self.planner.jobs[attack]
        inputs = [self.planner.cohort_key, attack, *([spec["prepare"]] if spec["prepare"] else [])]
        return self.planner._add("score", f"{job.label}", key, "score:run", spec, inputs, memory_mb=800)


def worker_count(workers: int | str, threads: int) -> int:
    """Return how many cells run at a time: `"auto"` shares the cores this process may use among them."""
    if workers != "auto":
        return int(workers)
    return max(1, len(os.sched_getaffinity(0)) // threads)


def describe(split: Split) -> dict[str, int]:
    """Return how many patients each group of a split has."""
    return {name: len(patients) for name, patients in asdict(split).items()}
