"""The strongest attack on a training: chosen without letting a patient vote on the attack that is scored on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.scoring.checks import EvidenceError, Floats
from leakaudit.scoring.intervals import Interval, patient_interval, with_repeats
from leakaudit.scoring.membership_choice import ByMembership, Table, membership_choices
from leakaudit.scoring.rates import clopper_pearson, normalized
from leakaudit.scoring.verdicts import FEW

__all__ = ["ByPatient", "Candidate", "Strongest", "strongest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One endpoint of one attack on one training: it may be the strongest of its kind.

    Attributes:
        attack: Label of the attack.
        endpoint: Name of the endpoint.
        patients: Patient keys.
        gain: S - C, (repeats, patients); empty for membership.
        room: A - C of the same shape.
        chance: Mean of C.
        rate: Whether a patient's score is a hit or a miss, so that only Clopper-Pearson knows how wide the interval is.
        tables: Membership: scores, who is a member, and the sites, for each repeat.
    """

    attack: str
    endpoint: str
    patients: tuple[str, ...]
    gain: Floats
    room: Floats
    chance: float = 0.0
    rate: bool = False
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPatient:
    """Leakage with a value for each patient.

    Attributes:
        patients: Patient keys, sorted.
        gain: S - C of the attack that was chosen for each patient, (repeats, patients).
        room: A - C of the same shape.
        chance: Mean of C.
        rate: Whether a patient's score is a hit or a miss.
    """

    patients: tuple[str, ...]
    gain: Floats
    room: Floats
    chance: float = 0.0
    rate: bool = False

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.patients)

    @property
    def repeats(self) -> int:
        """Number of training repeats."""
        return len(self.gain)

    @property
    def value(self) -> float:
        """Leakage, sum(gain) / sum(room)."""
        return float(self.gain.sum() / self.room.sum())

    @property
    def values(self) -> Floats:
        """Linearized leakage, (repeats, patients): its mean is `value` and its spread that of the ratio."""
        scale = float(self.room.mean())
        return np.asarray(self.value + (self.gain - self.value * self.room) / scale)

    @property
    def means(self) -> Floats:
        """Leakage of each repeat."""
        return np.asarray(self.values.mean(axis=1))

    def bounds(self, level: float, seed: int) -> Interval:
        """Return the interval over patients alone."""
        if self.rate:
            # Of rates that are all zero or one a resampled interval has no width.
            hits = float((self.gain.mean(axis=0) + self.chance).sum())
            found = clopper_pearson(min(max(hits, 0.0), self.n), self.n, level)
            return normalized(found, self.chance, self.chance + float(self.room.mean()))
        return patient_interval(self.values.mean(axis=0), level=level, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strongest:
    """The strongest attack of one kind on one training, read twice.

    Where attacks are equally strong the cross-fitted value is free of bias and never above the upward one, but it varies more
    and downward (standard deviation .016 instead of .009 for three equal attacks on 50 patients). The lower bound is
    therefore taken from the one and the upper bound from the other: both err to their own side.

    Attributes:
        attack: Attack that leaks most on all patients.
        endpoint: Its endpoint.
        fair: Cross-fitted: for each patient the attack that leaks most on the others.
        upward: For each patient the attack that leaks most on all of them, itself included, so that it errs upward.
    """

    attack: str
    endpoint: str
    fair: ByPatient | ByMembership
    upward: ByPatient | ByMembership

    @property
    def value(self) -> float:
        """Leakage by the cross-fitted choice."""
        return self.fair.value

    def interval(self, *, level: float = 0.95, seed: int) -> Interval | None:
        """Return the interval over patients and repeats; None below 5 patients."""
        if self.fair.n < FEW:
            return None
        low, high = (with_repeats(side.means, side.bounds(level, seed)) for side in (self.fair, self.upward))
        return Interval(min(low.low, high.low), max(low.high, high.high), f"{low.method}; strongest attack cross-fitted", level)


def strongest(candidates: Sequence[Candidate]) -> Strongest:
    """Choose the strongest attack among endpoints of one kind.

    The reference rule asks for a choice on validation patients, but attacks are scored on attacked patients only. So each
    patient's value comes from the (attack, endpoint) with the largest leakage over the *other* patients. As the choice does
    not depend on the patient, the mean carries no bias of choice: with attacks that are equally strong (true .100, sd .06)
    the choice on all patients averages .116 / .112 / .107 (3 attacks, n = 10 / 20 / 50), this one .100.

    Candidates may be about different patients, for example of different hospitals: a patient gets the strongest of those
    that attacked it, and the leakage is the mean over all patients.

    Membership has no value by patient; see `membership_choices`.

    Args:
        candidates: At least one; those without room above chance (mean of `room` not positive) must be left out before.

    Raises:
        EvidenceError: There is no candidate, or their numbers of repeats differ.
    """
    if not candidates:
        raise EvidenceError("the strongest attack was asked for where no attack gave a number")
    if len({len(c.tables) or len(c.gain) for c in candidates}) > 1:
        raise EvidenceError("attacks on the same training have different numbers of repeats")
    if candidates[0].tables:
        index, crossed, whole = membership_choices([c.patients for c in candidates], [c.tables for c in candidates])
        top = candidates[index]
        return Strongest(attack=top.attack, endpoint=top.endpoint, fair=crossed, upward=whole)
    top = max(candidates, key=lambda c: float(c.gain.sum() / c.room.sum()))
    board = _Board(candidates)
    fair, upward = board.chosen(leave_out=True), board.chosen(leave_out=False)
    return Strongest(attack=top.attack, endpoint=top.endpoint, fair=fair, upward=upward)


class _Board:
    """All candidates on one list of patients: gain and room, (candidates, repeats, patients), zero where not attacked."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.patients = tuple(sorted({p for c in candidates for p in c.patients}))
        place = {p: i for i, p in enumerate(self.patients)}
        shape = (len(candidates), len(candidates[0].gain), len(self.patients))
        self.gain, self.room = np.zeros(shape), np.zeros(shape)
        self.there = np.zeros((shape[0], shape[2]), dtype=bool)
        for k, c in enumerate(candidates):
            columns = [place[p] for p in c.patients]
            self.gain[k][:, columns], self.room[k][:, columns] = c.gain, c.room
            self.there[k, columns] = True
        self.chance = np.array([c.chance for c in candidates])
        self.rate = any(c.rate for c in candidates)

    def chosen(self, *, leave_out: bool) -> ByPatient:
        index, each = self._choice(leave_out), np.arange(len(self.patients))
        return ByPatient(
            patients=self.patients, gain=self.gain[index, :, each].T, room=self.room[index, :, each].T,
            chance=float(self.chance[index].mean()), rate=self.rate,
        )  # fmt: skip

    def _choice(self, leave_out: bool) -> NDArray[np.intp]:
        top, bottom = self.gain.sum(axis=1), self.room.sum(axis=1)
        tops, bottoms = top.sum(axis=1, keepdims=True), bottom.sum(axis=1, keepdims=True)
        if leave_out:
            tops, bottoms = tops - top, bottoms - bottom
        bottoms = np.broadcast_to(bottoms, top.shape)
        # A candidate about this patient alone says nothing without it, yet it is better than no value.
        leaks = np.where(bottoms > 1e-9, tops / np.where(bottoms > 1e-9, bottoms, 1.0), -1e9)
        return np.asarray(np.where(self.there, leaks, -np.inf).argmax(axis=0))
