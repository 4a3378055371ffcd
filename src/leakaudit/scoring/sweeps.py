"""Swept defenses at equal utility: leakage interpolated at one Dice, with the whole curve resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.scoring.checks import EvidenceError, Floats
from leakaudit.scoring.intervals import Interval, patient_interval, with_repeats
from leakaudit.scoring.membership_choice import ByMembership
from leakaudit.scoring.paired import counts
from leakaudit.scoring.strongest import ByPatient, Strongest
from leakaudit.scoring.verdicts import FEW

__all__ = ["AtDice", "Setting", "common_dice", "leakage_at"]

Side = ByPatient | ByMembership
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One strength of a swept defense, or the undefended training as the end of every sweep.

    Attributes:
        label: Label of the defense.
        leakage: Strongest attack of the kind that is compared.
        dice: Mean Dice of each test patient, (repeats, patients).
    """

    label: str
    leakage: Strongest
    dice: Floats


@dataclass(frozen=True, kw_only=True)
class AtDice:
    """Leakage of a sweep at one Dice.

    Attributes:
        value: Leakage.
        interval: Its interval over patients of both groups and repeats; None where it cannot be stated.
        reason: Why there is no interval, or what it does not cover.
    """

    value: float
    interval: Interval | None
    reason: str | None = None


def common_dice(sweeps: Sequence[Sequence[Setting]]) -> tuple[float, tuple[int, ...]] | None:
    """Return the Dice at which sweeps are compared: the middle of the range that most of them share.

    Only where at least two sweeps have been measured on both sides of it: nothing is extrapolated. Among equally many
    sweeps those with the widest common range.

    Args:
        sweeps: Settings of each sweep.

    Returns:
        The Dice and the indices of the sweeps that reach it; None where no two sweeps overlap.
    """
    ranges = [(min(d), max(d)) for d in ([float(s.dice.mean()) for s in sweep] for sweep in sweeps)]
    best: tuple[int, float, float, tuple[int, ...]] | None = None
    for left in sorted({low for low, _ in ranges}):
        # Every widest common range begins where one of its sweeps begins.
        inside = [i for i, (low, high) in enumerate(ranges) if low <= left < high]
        for right in sorted({ranges[i][1] for i in inside}):
            who = tuple(i for i in inside if ranges[i][1] >= right)
            found = (len(who), right - left, (left + right) / 2, who)
            if len(who) >= 2 and (best is None or found[:2] > best[:2]):
                best = found
    return None if best is None else (best[2], best[3])


def leakage_at(settings: Sequence[Setting], dice: float, *, level: float = 0.95, seed: int) -> AtDice:
    """Return the leakage of a sweep at a Dice, interpolated linearly between its settings.

    The settings are ordered by their mean Dice. Less leakage at more Dice than a neighbor is taken for noise: a setting
    counts with the largest leakage among those of its own or lower Dice (a running maximum), which errs toward more leakage
    and leaves a rising curve as it is.

    The interval is the wider of two on each side. (1) The whole curve is resampled, attacked and test patients apart and
    each resample ordered and interpolated anew; percentiles. (2) The curve is linearized at the given Dice, dL = (1-w) dL_a +
    w dL_b - slope ((1-w) dDice_a + w dDice_b), with `patient_interval` for either group, squared and added; percentiles alone
    are too narrow below 20 patients. The repeats' values of the same linearization widen it (MOVER). Membership and rates
    are not resampled: their single intervals are averaged with the weights, as if fully dependent, which is the widest they
    can be. The lower bound is read from the cross-fitted choice of the strongest attack and the upper one from the
    upward choice.

    Args:
        settings: At least two, all with the same patients and repeats.
        dice: Within the range of the settings' mean Dice.
        level: Two-sided level.
        seed: Seed of the resampling: the same for all sweeps, so that they are resampled alike.

    Raises:
        EvidenceError: The Dice is outside of the range, or the settings differ in patients or repeats.
    """
    fair, upward = (_Curve(settings, dice, [getattr(s.leakage, choice) for s in settings]) for choice in ("fair", "upward"))
    if min(fair.n, settings[0].dice.shape[1]) < FEW:
        return AtDice(value=fair.value, interval=None, reason=f"Fewer than {FEW} attacked or test patients.")
    bounds = [curve.interval(level, seed) for curve in (fair, upward)]
    if bounds[0] is None or bounds[1] is None:
        return AtDice(value=fair.value, interval=None, reason="The Dice lies too close to an end of the curve to be sure of it.")
    low, high = (pick(getattr(b, end) for b in bounds if b is not None) for pick, end in ((min, "low"), (max, "high")))
    once = "One training run: the interval speaks of this trained model." if len(fair.means[0]) == 1 else None
    return AtDice(value=fair.value, interval=Interval(low, high, bounds[0].method, level), reason=once)


class _Curve:
    """The settings' leakage over Dice by one choice of the strongest attack, and its segment at the given Dice."""

    def __init__(self, settings: Sequence[Setting], at: float, sides: Sequence[Side]) -> None:
        self.at, self.sides = at, sides
        self.n = min(side.n for side in sides)
        smooth = [side for side in sides if isinstance(side, ByPatient) and not side.rate]
        shapes = {s.dice.shape for s in settings} | {(side.repeats, settings[0].dice.shape[1]) for side in sides}
        if len(shapes) > 1 or len({side.patients for side in smooth}) > 1 or len(smooth) not in (0, len(sides)):
            raise EvidenceError("the settings of a sweep differ in patients or repeats, so that they have no common curve")
        # Leakage by patient, (settings, patients); None where it has no usable resamples.
        self.table = np.stack([side.values.mean(axis=0) for side in smooth]) if smooth else None
        self.dice = np.stack([s.dice for s in settings])
        self.means = np.stack([side.means for side in sides])
        level, height = self.dice.mean(axis=(1, 2)), self.means.mean(axis=1)
        if not level.min() <= at <= level.max():
            raise EvidenceError(f"a Dice of {at:.3f} is outside of {level.min():.3f} to {level.max():.3f}; nothing is extrapolated")
        order = np.argsort(level, kind="stable")
        right = min(max(int(np.searchsorted(level[order], at, side="left")), 1), len(order) - 1)
        self.ends = order[[right - 1, right]]
        # The setting whose leakage counts at either end: the largest at its own or lower Dice.
        self.tops = np.array([order[:stop][height[order[:stop]].argmax()] for stop in (right, right + 1)])
        width = float(level[self.ends[1]] - level[self.ends[0]])
        w = (at - float(level[self.ends[0]])) / width if width > 0 else 1.0
        self.weights = np.array([1 - w, w])
        self.slope = float(height[self.tops[1]] - height[self.tops[0]]) / width if width > 0 else 0.0
        self.value = float(self.weights @ height[self.tops])

    def interval(self, level: float, seed: int) -> Interval | None:
        curve = self._resampled(level, seed)
        if curve is None:
            return None
        low, high = self._leakage_reach(level, seed)
        drop = self.slope * np.einsum("k,krj->rj", self.weights, self.dice[self.ends])
        test = patient_interval(drop.mean(axis=0), level=level, seed=seed + 1)
        # More Dice than measured means less leakage at the given Dice, so that the sides change places.
        center = float(drop.mean())
        below, above = test.high - center, center - test.low
        if self.table is not None:
            reach = [max(math.hypot(low, below), curve[0]), max(math.hypot(high, above), curve[1])]
        else:
            reach = [math.hypot(low, max(below, curve[0])), math.hypot(high, max(above, curve[1]))]
        patients = Interval(self.value - reach[0], self.value + reach[1], "whole curve resampled by patient", level)
        repeats = self.weights @ self.means[self.tops] - drop.mean(axis=1)
        return with_repeats(repeats - repeats.mean() + self.value, patients)

    def _leakage_reach(self, level: float, seed: int) -> tuple[float, float]:
        """Return how far the leakage of attacked patients reaches below and above."""
        if self.table is not None:
            found = patient_interval(self.weights @ self.table[self.tops], level=level, seed=seed)
            return self.value - found.low, found.high - self.value
        tops = [self.sides[i] for i in self.tops]
        single = [side.bounds(level, seed) for side in tops]
        low = sum(w * (side.value - b.low) for w, side, b in zip(self.weights, tops, single, strict=True))
        high = sum(w * (b.high - side.value) for w, side, b in zip(self.weights, tops, single, strict=True))
        return float(low), float(high)

    def _resampled(self, level: float, seed: int) -> tuple[float, float] | None:
        """Return how far the resampled curve reaches below and above; None where it too often misses the Dice."""
        test = self.dice.mean(axis=1)
        dice = np.concatenate([share @ test.T for share in counts(test.shape[1], RESAMPLES, seed + 1)])
        leak = np.broadcast_to(self.means.mean(axis=1), dice.shape)
        if self.table is not None:
            leak = np.concatenate([share @ self.table.T for share in counts(self.table.shape[1], RESAMPLES, seed)])
        found = _interpolate(dice, leak, self.at)
        tail, missed = (1 - level) / 2, np.isnan(found)
        # A resample that misses the Dice may lie anywhere: it counts against both ends.
        low = float(np.quantile(np.where(missed, -np.inf, found), tail, method="lower"))
        high = float(np.quantile(np.where(missed, np.inf, found), 1 - tail, method="higher"))
        if math.isinf(low) or math.isinf(high):
            return None
        return max(self.value - low, 0.0), max(high - self.value, 0.0)


def _interpolate(dice: Floats, leak: Floats, at: float) -> Floats:
    """Return the leakage of each curve at a Dice; NaN outside of its range.

    Args:
        dice: Mean Dice of each setting, (curves, settings).
        leak: Leakage of each setting, of the same shape.
        at: The Dice.
    """
    order: NDArray[np.intp] = np.argsort(dice, axis=1, kind="stable")
    x = np.take_along_axis(dice, order, axis=1)
    y = np.maximum.accumulate(np.take_along_axis(leak, order, axis=1), axis=1)
    right = np.clip((x < at).sum(axis=1), 1, x.shape[1] - 1)
    rows = np.arange(len(x))
    left_x, right_x, left_y, right_y = x[rows, right - 1], x[rows, right], y[rows, right - 1], y[rows, right]
    width = right_x - left_x
    w = np.divide(at - left_x, width, out=np.ones_like(width), where=width > 0)
    inside = (x[:, 0] <= at) & (at <= x[:, -1])
    return np.where(inside, (1 - w) * left_y + w * right_y, np.nan)
