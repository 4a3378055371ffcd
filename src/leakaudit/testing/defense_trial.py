"""A defense in tiny trainings under every protocol it applies to, as they are and with other streams of randomness."""

from __future__ import annotations

from typing import cast

from leakaudit.engine.places import Place, guard_of
from leakaudit.engine.plan import Baseline, Plan
from leakaudit.engine.training import Trained, Training
from leakaudit.facts import SeatFacts
from leakaudit.testing.results import UntriedError
from leakaudit.testing.stage import Stage
from leakaudit.testing.subject import Subject
from leakaudit.wire import Secret

__all__ = ["DefenseTrial", "OtherNoise", "OtherWire", "trial_of"]


class OtherWire(Secret):
    """A secret whose branches named in `renamed` are others."""

    renamed = ("wire",)

    def branch(self, *names: str) -> Secret:
        """Return the branch of this name, or another one where it is renamed."""
        head, *rest = names
        return Secret(self.key).branch(f"other {head}" if head in self.renamed else head, *rest)


class OtherNoise(Training):
    """The same training, whose defenses draw from other streams."""

    def place(self, facts: SeatFacts) -> Place:
        """Return an honest seat whose defenses have another secret than the seat itself."""
        seat = self.seat(facts)
        guard = guard_of(self.spec["defenses"], self.seat(facts, branch="other defense"))
        party = self.protocol.party(seat, self.task, guard, self.holdings(facts))
        return Place(party=party, state=party.state, public=guard.public_state, claims=guard.guarantees)


class DefenseTrial:
    """The defense in a tiny training under every protocol it applies to."""

    def __init__(self, subject: Subject) -> None:
        self.stage = Stage(subject.folder)
        self.plan: Plan = self.stage.plan(defenses=[subject.entry])
        mine = [b for b in self.plan.baselines if b.defense == "under-test"]
        self.baselines = [b for b in mine if b.reason is None]
        if not self.baselines:
            reasons = "; ".join(dict.fromkeys(b.reason for b in mine if b.reason))
            raise UntriedError(f"it applies to none of the built-in protocols ({reasons}); try it with a recipe of your own")
        self.trained: dict[str, Trained] = {}

    def training(self, baseline: Baseline) -> Training:
        """Return the defended training, ready to run."""
        return self.stage.training(self.plan, baseline.trains[0])

    def variant(self, baseline: Baseline, kind: type[Training]) -> Training:
        """Return the defended training as another class of training."""
        t = self.training(baseline)
        return kind(t.spec, t.cohort, t.split, salt=t.salt)


def trial_of(subject: Subject) -> DefenseTrial:
    """Return the subject's trial, the same each time."""
    if "trial" not in subject.memo:
        subject.memo["trial"] = DefenseTrial(subject)
    return cast("DefenseTrial", subject.memo["trial"])
