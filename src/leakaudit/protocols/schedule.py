"""Who is in which batch: shuffled passes, or Poisson sampling of patients or records as DP-SGD needs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from leakaudit.errors import UserError
from leakaudit.wire.seats import Secret

__all__ = ["Sampler", "Sampling", "Schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How batches are drawn.

    Attributes:
        kind: `"shuffle"` passes over all rows in random order; `"poisson"` takes every unit independently.
        unit: What is taken independently under Poisson sampling.
    """

    kind: Literal["shuffle", "poisson"] = "shuffle"
    unit: Literal["record", "patient"] = "record"


class Sampler:
    """Draws the batches of one party's rows.

    Args:
        units: Index of the patient behind each row.
        batch: Rows per batch; their expected number under Poisson sampling.
        sampling: How to draw.
        generator: Source of randomness (on the CPU).

    Raises:
        UserError: There are no rows.
    """

    def __init__(self, units: Sequence[int], batch: int, sampling: Sampling, generator: torch.Generator) -> None:
        self.rows = len(units)
        if not self.rows:
            raise UserError("A seat has no image to train on. Every member of the cohort needs at least one sample.")
        self.sampling = sampling
        by_record = sampling.kind == "shuffle" or sampling.unit == "record"
        names = range(self.rows) if by_record else units
        self._unit_rows: dict[int, list[int]] = {}
        for row, unit in enumerate(names):
            self._unit_rows.setdefault(unit, []).append(row)
        self.batch = min(batch, self.rows)
        self.rate = self.batch / self.rows
        self._generator = generator

    @property
    def steps(self) -> int:
        """Batches in one pass."""
        return math.ceil(self.rows / self.batch)

    @property
    def expected_units(self) -> float:
        """Expected number of units in a batch."""
        return self.rate * len(self._unit_rows)

    def epoch(self) -> list[list[int]]:
        """Return the row indices of each batch of one pass; under Poisson sampling a batch may be empty."""
        if self.sampling.kind == "shuffle":
            order = torch.randperm(self.rows, generator=self._generator).tolist()
            return [order[i : i + self.batch] for i in range(0, self.rows, self.batch)]
        groups = list(self._unit_rows.values())
        batches = []
        for _ in range(self.steps):
            chosen = torch.rand(len(groups), generator=self._generator) < self.rate
            batches.append([row for group, taken in zip(groups, chosen.tolist(), strict=True) if taken for row in group])
        return batches


class Schedule:
    """The batches of a training in which all parties work on the same rows, drawn ahead.

    Drawing ahead lets a tap know when a patient crosses for the last time, also under Poisson sampling.

    Args:
        tokens: Token of every row.
        units: Index of the patient behind each row.
        rounds: Number of passes.
        batch: Rows per batch.
        sampling: How to draw.
        secret: Source of randomness.
    """

    def __init__(
        self, tokens: Sequence[str], units: Sequence[int], rounds: int, batch: int, sampling: Sampling, secret: Secret
    ) -> None:
        self.rounds = rounds
        self.secret = secret
        self.sampling = sampling
        sampler = Sampler(units, batch, sampling, secret.branch("batches").generator())
        self.batch, self.rate, self.expected_units = sampler.batch, sampler.rate, sampler.expected_units
        self._batches = [[tuple(tokens[i] for i in rows) for rows in sampler.epoch()] for _ in range(rounds)]

    def batches(self, round_: int) -> list[tuple[str, ...]]:
        """Return the tokens of each batch of a round."""
        return self._batches[round_]

    def crossings(self) -> dict[str, list[tuple[int, int]]]:
        """Return for every token the (round, step) pairs in which it is in the batch, in order."""
        found: dict[str, list[tuple[int, int]]] = {}
        for round_, batches in enumerate(self._batches):
            for step, batch in enumerate(batches):
                for token in batch:
                    found.setdefault(token, []).append((round_, step))
        return found
