"""Two defenses of one protocol compared by the rule of evidence, and the band that nothing significantly dominates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from leakaudit.scoring.checks import Floats
from leakaudit.scoring.contenders import Compared, Contender, Difference, Outcome, dice_bar, few, leakage_bar
from leakaudit.scoring.differences import Duel, dice_bounds, leakage_bounds
from leakaudit.scoring.multiplicity import bonferroni_level
from leakaudit.scoring.verdicts import FEW, SOME

__all__ = ["FEWEST_REPEATS", "band", "compare"]

FEWEST_REPEATS = 3
"""With fewer trainings nothing is known about the next one, and no defense beats another."""

LEVEL = 0.95
DICE_LEVEL = 0.9
"""Two-sided level whose lower bound is the one-sided 95 % bound of the utility gate."""


def compare(
    contenders: Sequence[Contender], *, margin: float, repeats: float = FEWEST_REPEATS, seed: int, corrected: bool = True
) -> tuple[Compared, ...]:
    """Compare the defenses of one protocol two by two.

    A beats B iff upper(L_A - L_B) < 0 and lower(Dice_A - Dice_B) > -margin, with at least three repeats and ten attacked
    patients. The bound of leakage is the two-sided 95 % one, Bonferroni-corrected over all ordered pairs and kinds that are
    compared; that of Dice is the one-sided 95 % bound of the utility gate. Both are paired by patient and repeat, with the
    same resamples for all defenses; attacked and test patients are resampled apart. Where attacks compete to be the
    strongest, A is read upward and B cross-fitted (`Strongest`): luck in the choice of an attack never makes a claim.

    Membership and rates have no usable resamples at small n: the distances of the two single intervals to their values are
    squared and added (MOVER; Newcombe 1998), as if the two were independent. Scores of the same patients rise and fall
    together, so this is wider than needed.

    Low leakage counts only where it was looked for: an attack that gave a number against B and, though it applies, none
    against A bars the claim that A beats B, and so does a kind for which no attack was adapted to A ("adaptive or not
    evaluated").

    Args:
        contenders: The trainings, the undefended one among them.
        margin: Loss of Dice that is accepted.
        repeats: Fewest repeats for a claim; at least three whatever is asked.
        seed: Seed of the resampling.
        corrected: Whether the level is corrected for the number of comparisons; only simulations turn it off.

    Returns:
        One comparison for each unordered pair and kind that at least one of the two has, in the given order.
    """
    rule = _Rule(contenders, margin, max(repeats, FEWEST_REPEATS), seed, corrected)
    pairs = itertools.combinations(range(len(contenders)), 2)
    return tuple(rule.pair(a, b, kind) for a, b in pairs for kind in rule.kinds if rule.has(a, kind) or rule.has(b, kind))


def band(
    compared: Sequence[Compared], contenders: Sequence[Contender], *, repeats: float = FEWEST_REPEATS
) -> dict[str, bool | None]:
    """Return for each contender whether it is in the band that nothing significantly dominates.

    It is dominated only where one other contender beats it in every kind of leakage that both have, and there is at least
    one. None: too few repeats, or no comparison with anyone has numbers for both leakage and Dice.

    Args:
        compared: Result of `compare`.
        contenders: The same contenders.
        repeats: Fewest repeats for a claim.
    """
    wins: dict[tuple[str, str], list[bool]] = {}
    able = set()
    for c in compared:
        if c.both:
            wins.setdefault((c.a, c.b), []).append(c.outcome == "a beats b")
            wins.setdefault((c.b, c.a), []).append(c.outcome == "b beats a")
        if c.leakage.low is not None and c.dice.low is not None:
            able |= {c.a, c.b}
    beaten = {loser for (_, loser), found in wins.items() if all(found)}
    fewest = max(repeats, FEWEST_REPEATS)
    enough = {c.name for c in contenders if c.leakage and min(s.fair.repeats for s in c.leakage.values()) >= fewest}
    return {c.name: c.name not in beaten if c.name in able & enough else None for c in contenders}


class _Rule:
    """The bounds of all ordered pairs, computed together, and the words for each unordered one."""

    def __init__(self, contenders: Sequence[Contender], margin: float, repeats: float, seed: int, corrected: bool) -> None:
        self.contenders, self.margin, self.repeats = contenders, margin, repeats
        self.kinds = tuple(dict.fromkeys(kind for c in contenders for kind in c.leakage))
        self.ordered = list(itertools.permutations(range(len(contenders)), 2))
        trials = [(a, b, kind) for a, b in self.ordered for kind in self.kinds if self.has(a, kind) and self.has(b, kind)]
        self.tests = len(trials)
        level = bonferroni_level(LEVEL, max(self.tests, 1)) if corrected else LEVEL
        able = [(a, b, kind) for a, b, kind in trials if leakage_bar(contenders[a], contenders[b], kind) is None]
        able = [t for t in able if self._n(*t) >= FEW]
        high, sure = leakage_bounds([self._duel(*t) for t in able], level=level, seed=seed)
        self.high = {t: float(bound) for t, bound in zip(able, high, strict=True)}
        self.sure = {t: bool(below) for t, below in zip(able, sure, strict=True)}
        self.dice_low = {at: self._dice_low(at, seed) for at in (LEVEL, DICE_LEVEL)}

    def has(self, index: int, kind: str) -> bool:
        return kind in self.contenders[index].leakage

    def _duel(self, a: int, b: int, kind: str) -> Duel:
        return self.contenders[a].leakage[kind], self.contenders[b].leakage[kind]

    def _n(self, a: int, b: int, kind: str) -> int:
        return min(side.fair.n for side in self._duel(a, b, kind))

    def _dice_low(self, level: float, seed: int) -> dict[tuple[int, int], float]:
        groups: dict[tuple[tuple[str, ...], int], list[tuple[int, int]]] = {}
        for a, b in self.ordered:
            one = self.contenders[a]
            if dice_bar(one, self.contenders[b]) is None and len(one.testers) >= FEW:
                groups.setdefault((one.testers, len(_dice(one))), []).append((a, b))
        found: dict[tuple[int, int], float] = {}
        for pairs in groups.values():
            tables = [(_dice(self.contenders[a]), _dice(self.contenders[b])) for a, b in pairs]
            lows = dice_bounds(tables, level=level, seed=seed)
            found |= {pair: float(low) for pair, low in zip(pairs, lows, strict=True)}
        return found

    # Words ------------------------------------------------------------------------------------------------------------

    def pair(self, a: int, b: int, kind: str) -> Compared:
        one, other = self.contenders[a], self.contenders[b]
        leakage, dice = self._leakage(a, b, kind), self._dice(a, b)
        outcome, reason = self._outcome(a, b, kind, leakage, dice)
        both = self.has(a, kind) and self.has(b, kind)
        return Compared(a=one.name, b=other.name, kind=kind, leakage=leakage, dice=dice, outcome=outcome, reason=reason, both=both)

    def _leakage(self, a: int, b: int, kind: str) -> Difference:
        bar = leakage_bar(self.contenders[a], self.contenders[b], kind)
        if bar is not None:
            return Difference(reason=bar)
        one, other = self._duel(a, b, kind)
        value = one.value - other.value
        if (a, b, kind) not in self.high:
            return Difference(value=value, reason=few("attacked"))
        # The bounds are those of two claims, each read against itself: they enclose the value.
        return Difference(value=value, low=min(-self.high[b, a, kind], value), high=max(self.high[a, b, kind], value))

    def _dice(self, a: int, b: int) -> Difference:
        one, other = self.contenders[a], self.contenders[b]
        bar = dice_bar(one, other)
        if bar is not None:
            return Difference(reason=bar)
        value, lows = float((_dice(one) - _dice(other)).mean()), self.dice_low[LEVEL]
        if (a, b) not in lows:
            return Difference(value=value, reason=few("test"))
        return Difference(value=value, low=lows[a, b], high=-lows[b, a])

    def _outcome(self, a: int, b: int, kind: str, leakage: Difference, dice: Difference) -> tuple[Outcome, str | None]:
        if bar := self._bar(a, b, kind, leakage, dice):
            return "not distinguishable", bar
        if self._beats(a, b, kind):
            return "a beats b", None
        if self._beats(b, a, kind):
            return "b beats a", None
        return "not distinguishable", self._doubt(a, b, kind)

    def _bar(self, a: int, b: int, kind: str, leakage: Difference, dice: Difference) -> str | None:
        """Return why neither can beat the other."""
        if leakage.reason is not None:
            return leakage.reason
        one, n = self.contenders[a], self._n(a, b, kind)
        count = min(one.leakage[kind].fair.repeats, len(one.dice) if one.dice is not None else self.repeats)
        if count < self.repeats:
            runs = "One training run" if count == 1 else f"{count} training runs"
            return f"{runs} of each; {self.repeats:g} are needed, because another training may leak more."
        if n < SOME:
            return f"Fewer than {SOME} attacked patients: an interval is indicative, no claim."
        return dice.reason

    def _beats(self, a: int, b: int, kind: str) -> bool:
        kept = self.dice_low[DICE_LEVEL][a, b] > -self.margin
        return self.sure[a, b, kind] and kept and self._unfair(a, b, kind) is None

    def _unfair(self, a: int, b: int, kind: str) -> str | None:
        """Return why low leakage of A says nothing beside that of B."""
        less, more = self.contenders[a], self.contenders[b]
        if missing := less.untried(more, kind):
            return f"The one that seems to leak less has no number from {', '.join(missing)}, the other one has."
        if kind in less.unadapted:
            return "The one that seems to leak less was attacked without adapting to its defense, so that it was not evaluated."
        return None

    def _doubt(self, a: int, b: int, kind: str) -> str:
        for x, y in ((a, b), (b, a)):
            if self.sure[x, y, kind]:
                dice = f"The one that leaks less may lose more Dice against the other than the accepted {self.margin:g}."
                return self._unfair(x, y, kind) or dice
            if self.high[x, y, kind] < 0:
                return (
                    f"They differ by the 95 % interval alone, but not after correction for {self.tests} comparisons; more "
                    "training repeats would help most."
                )
        return "The difference of leakage may be zero."


def _dice(contender: Contender) -> Floats:
    assert contender.dice is not None
    return contender.dice
