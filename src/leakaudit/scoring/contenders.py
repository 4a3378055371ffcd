"""Who is compared with whom: trainings with their strongest attacks and Dice, and what bars a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from leakaudit.scoring.checks import Floats
from leakaudit.scoring.strongest import ByPatient, Strongest
from leakaudit.scoring.verdicts import FEW

__all__ = ["Compared", "Contender", "Difference", "Outcome", "dice_bar", "few", "leakage_bar", "named"]

Outcome = Literal["a beats b", "b beats a", "not distinguishable"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One training that takes part: a defense of the protocol, or the undefended training.

    Attributes:
        name: Label of the defense.
        leakage: Strongest attack by kind.
        dice: Mean Dice of each test patient, (repeats, patients); None where it was not measured.
        testers: Test patients, in the order of `dice`.
        tried: Attacks behind each kind of leakage.
        excused: Attacks that need not be tried for a kind, because they do not apply here or another one stands for them.
        unadapted: Kinds for which no attack was adapted to this defense, so that it was not evaluated.
    """

    name: str
    leakage: Mapping[str, Strongest]
    dice: Floats | None = None
    testers: tuple[str, ...] = ()
    tried: Mapping[str, frozenset[str]] = field(default_factory=dict)
    excused: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unadapted: frozenset[str] = frozenset()

    def untried(self, other: Contender, kind: str) -> list[str]:
        """Return the attacks of a kind that gave a number against `other` and, though they apply, none against this one."""
        none: frozenset[str] = frozenset()
        return sorted(other.tried.get(kind, none) - self.tried.get(kind, none) - self.excused.get(kind, none))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference with its two-sided 95 % interval.

    Attributes:
        value: a minus b; None where there is none.
        low: Lower bound; None where nothing can be said.
        high: Upper bound.
        reason: Why the value or its bounds are missing.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two contenders compared for one kind of leakage.

    Attributes:
        a: Name of one.
        b: Name of the other.
        kind: Kind of leakage.
        leakage: Leakage of a minus leakage of b.
        dice: Dice of a minus Dice of b.
        outcome: What the rule says.
        reason: Why it says no more, or what weakens what it says.
        both: Whether both have a leakage of this kind.
    """

    a: str
    b: str
    kind: str
    leakage: Difference
    dice: Difference
    outcome: Outcome
    reason: str | None
    both: bool


def leakage_bar(a: Contender, b: Contender, kind: str) -> str | None:
    """Return why two leakages of a kind have no difference, or None."""
    for c in (a, b):
        if kind not in c.leakage:
            return f"{named(c)} has no leakage of this kind: no attack on it gave a number there."
    one, other = a.leakage[kind].fair, b.leakage[kind].fair
    if one.repeats != other.repeats:
        return f"{one.repeats} and {other.repeats} training repeats cannot be paired."
    if isinstance(one, ByPatient) and isinstance(other, ByPatient) and one.patients != other.patients:
        return "Different patients were attacked, so that the two cannot be paired."
    return None


def dice_bar(a: Contender, b: Contender) -> str | None:
    """Return why two trainings have no difference of Dice, or None."""
    for c in (a, b):
        if c.dice is None or not len(c.testers):
            return f"{named(c)} has no Dice on test patients."
    if a.testers != b.testers:
        return "Dice was measured on different test patients."
    if a.dice is not None and b.dice is not None and len(a.dice) != len(b.dice):
        return f"{len(a.dice)} and {len(b.dice)} training repeats cannot be paired."
    return None


def few(who: str) -> str:
    """Return why too few patients have no interval; never the number itself, which could single a patient out."""
    return f"Fewer than {FEW} {who} patients: no interval can be trusted."


def named(contender: Contender) -> str:
    """Return how a sentence that begins with a contender calls it."""
    return "The undefended training" if contender.name == "none" else contender.name
