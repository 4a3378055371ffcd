"""A plan: what a run will do, as plain data. `leakaudit.engine.planner` makes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory
from leakaudit.engine.jobs import Job
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.recipes.resolved import ResolvedRecipe
from leakaudit.threats import Requires

__all__ = ["Baseline", "Pairing", "Plan", "Planted", "describe"]


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
        trains: Training that each attack cell attacks (an altered one where the attack alters it).
        attacks: Attack cells: all seeds of the first repeat, then those of the second, and so on.
        scores: Score cell of each attack cell.
        seeds: Runs of the attack on each training, with different randomness.
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
    seeds: int = 1
    reason: str | None = None
    error: str | None = None
    defended: tuple[str, ...] = ()

    @property
    def repeats(self) -> int:
        """Training repeats."""
        return len(self.scores) // self.seeds


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A leak that the engine planted to tell a broken attack from a quiet channel: the cells of one planted control.

    Attributes:
        protocol: Label.
        attack: Label.
        way: `"level"`: the attack moved to the shallowest level of the cut; `"repeat"`: patients repeated in the training set.
        channel: Channel that is moved to the shallowest level, for `"level"`.
        level: The shallowest level, for `"level"`.
        train: The training that is attacked.
        cell: Attack cell; empty where there is none.
        score: Score cell; empty where there is none.
        reason: Why there are no cells.
    """

    protocol: str
    attack: str
    way: Literal["level", "repeat"]
    channel: str = ""
    level: str = ""
    train: str = ""
    cell: str = ""
    score: str = ""
    reason: str | None = None


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
        planted: Planted controls, which are added once the undefended pairings are judged.
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
    planted: tuple[Planted, ...] = ()


def describe(split: Split) -> dict[str, int]:
    """Return how many patients each group of a split has."""
    return {name: len(patients) for name, patients in asdict(split).items()}
