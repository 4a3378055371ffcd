"""A plan: what a run will do, as plain data. `leakaudit.engine.planner` makes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory
from leakaudit.engine.jobs import Job
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.recipes.resolved import ResolvedRecipe
from leakaudit.threats import Requires

__all__ = ["Baseline", "Pairing", "Plan", "describe"]


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


def describe(split: Split) -> dict[str, int]:
    """Return how many patients each group of a split has."""
    return {name: len(patients) for name, patients in asdict(split).items()}
