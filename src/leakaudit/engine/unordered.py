"""Evidence about whole updates: images in no known order, put into one by matching, and values of all that is behind an update.

Matching gains by itself, so chance is matched in the same way. A rank among a gallery needs no matching: the nearest image of
an update stands for each patient behind it, and the other patients behind it do not count as wrong answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError
from leakaudit.scoring.assignment import matching
from leakaudit.scoring.checks import Floats

__all__ = ["Behind", "behind", "expanded", "reordered", "same_matching"]


@dataclass(frozen=True, kw_only=True)
class Behind:
    """The truth behind evidence about updates, one entry for every sample behind every update.

    Attributes:
        rows: Row among the members.
        group: Which update it is behind, by number.
        places: For each update, the rows of the evidence that are about it.
    """

    rows: tuple[int, ...]
    group: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def alone(self) -> bool:
        """Whether every update has one sample behind it and one row about it, so that there is nothing to match."""
        return len(self.rows) == len(self.places) == sum(map(len, self.places))


def behind(about: Sequence[str], truth: Mapping[str, Sequence[int]], name: str) -> Behind:
    """Return what is behind the updates that evidence is about.

    Args:
        about: Token of the update that each row of the evidence is about.
        truth: Rows among the members behind each update, each once.
        name: Name of the evidence, for messages.

    Raises:
        EvidenceError: A token is unknown.
    """
    unknown = [t for t in about if t not in truth]
    if unknown:
        raise EvidenceError(f"evidence {name!r} is about {len(unknown)} updates that were never in the view")
    tokens = list(dict.fromkeys(about))
    places = tuple(tuple(i for i, t in enumerate(about) if t == token) for token in tokens)
    pairs = [(row, k) for k, token in enumerate(tokens) for row in truth[token]]
    return Behind(rows=tuple(r for r, _ in pairs), group=tuple(k for _, k in pairs), places=places)


def reordered(found: Behind, score: Callable[[Sequence[int], Sequence[int]], Floats], name: str) -> list[int]:
    """Return which row of the evidence is held against each sample behind the updates: the matching with the best mean score.

    Args:
        found: What is behind the updates.
        score: Score of rows of the evidence against samples (places in `found.rows`), shape (evidence, samples).
        name: Name of the evidence, for messages.

    Raises:
        EvidenceError: An update has fewer images than samples behind it.
    """
    chosen = [-1] * len(found.rows)
    for number, rows in enumerate(found.places):
        samples = [i for i, k in enumerate(found.group) if k == number]
        if len(rows) < len(samples):
            raise EvidenceError(f"evidence {name!r} has {len(rows)} rows about an update with {len(samples)} samples behind it")
        for sample, row in zip(samples, matching(score(rows, samples)), strict=True):
            chosen[sample] = rows[row]
    return chosen


def same_matching(groups: Sequence[int], score: Callable[[Sequence[int], Sequence[int]], Floats]) -> list[int]:
    """Return the order of guesses that fits the samples best, each group matched within itself.

    Args:
        groups: Group of each guess, and of the sample with the same index.
        score: As in `reordered`.
    """
    chosen = list(range(len(groups)))
    for group in dict.fromkeys(groups):
        rows = [i for i, g in enumerate(groups) if g == group]
        if len(rows) > 1:
            for sample, place in zip(rows, matching(score(rows, rows)), strict=True):
                chosen[sample] = rows[place]
    return chosen


def expanded(found: Behind, values: Any) -> Floats:
    """Return values of updates as one for each sample behind them: the mean of what is said of its update."""
    said = np.asarray(values, dtype=np.float64)
    means = [float(said[list(rows)].mean()) for rows in found.places]
    return np.array([means[k] for k in found.group])
