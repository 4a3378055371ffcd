"""What an attack implements: before, during and after training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from leakaudit.attacks.evidence import Evidence
from leakaudit.attacks.view import View
from leakaudit.cohorts.cohort import Cohort
from leakaudit.models.canary import GradientCanary
from leakaudit.models.task import TaskSpec
from leakaudit.plugins.params import AttackParams
from leakaudit.wire.seats import Seat
from leakaudit.wire.wire import Party

__all__ = ["Attack", "Setup"]

P = TypeVar("P", bound=AttackParams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an attack may alter before training.

    Attributes:
        task: The task to learn; replace it if the threat model alters `"task"`.
        auxiliary: Patients the adversary owns, to craft canaries from.
        canaries: Crafted patients, one per canary; the engine tosses a coin for each and trains on the winners. Fill it
            if the threat model alters `"cohort"`.
        gradients: The same for canaries that are nothing but a gradient (`Canaries.form` is `"gradients"`).
    """

    task: TaskSpec
    auxiliary: Cohort
    canaries: Cohort | None = None
    gradients: tuple[GradientCanary, ...] = ()


class Attack(ABC, Generic[P]):
    """An attack. Only `run` is required.

    Args:
        params: The attack's parameters.
        seat: The adversary's seat; its randomness comes from `seat.rng(purpose)` alone.
    """

    def __init__(self, params: P, seat: Seat) -> None:
        self.params = params
        self.seat = seat

    def prepare(self, setup: Setup) -> Setup:
        """Alter the cohort (canaries) or the task before training. Needs the matching entry in `ThreatModel.alters`."""
        return setup

    def play(self, honest: Party) -> Party:
        """Return the party that takes a seat during training.

        A rider forwards `honest.reply` unchanged and looks on: training must then end with the same weights. A hijacker
        answers itself, and its threat model alters `"replies"`. What the party's `state()` holds in the end is what `run`
        finds in `view.own`.
        """
        return honest

    def fit(self, view: View) -> None:
        """Learn what does not depend on the victims' messages (for example train a decoder on a replica).

        Called once, before `run`, on a view without messages, so that the negative control need not repeat it.
        """

    @abstractmethod
    def run(self, view: View) -> Evidence | Sequence[Evidence]:
        """Return evidence about the view's targets. Called on the real view and on one with shuffled messages."""
