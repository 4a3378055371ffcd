"""Repeats of one endpoint merged, with its intervals: from score cells to the numbers that verdicts are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from leakaudit.engine.evidence_matrix import Exchange
from leakaudit.engine.merge_epsilon import EpsilonTables
from leakaudit.engine.merge_membership import FEWEST, MembershipTables
from leakaudit.engine.raw import Raw, merge_raw
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.intervals import Interval, leakage_interval, with_repeats
from leakaudit.scoring.leakage import MIN_ROOM
from leakaudit.scoring.permutation import ShuffleTest, patient_limit, shuffle_test
from leakaudit.scoring.rates import clopper_pearson, normalized

__all__ = ["Kind", "Merged", "PatientBar", "merge"]

Kind = Literal["fidelity", "mask", "identity", "canary", "membership", "property", "epsilon"]

_KINDS: dict[str, Kind] = {
    "fidelity": "fidelity", "identity": "identity", "canary": "canary", "membership": "membership",
    "tumor-volume": "property", "epsilon": "epsilon",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientBar:
    """What exchanged evidence reaches, as a bar for each patient's own.

    Attributes:
        limit: Leakage that evidence about other patients reaches in a share .05 / n only; None for identity, where the bar
            is a similarity and no leakage.
        above: Patients whose own evidence lies above it.
    """

    limit: float | None
    above: int


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One endpoint of one pairing over all repeats.

    Attributes:
        name: Unique in its pairing.
        endpoint: `"fidelity"`, `"identity"`, ...
        channel: Channel it was taken from.
        seat: Seat it is about.
        level: Level it was taken from.
        round: Round it was taken from; None for the last.
        patients: Patient keys, sorted; membership: all candidates; epsilon: all canaries.
        gain: S - C, (repeats, patients); membership and epsilon: empty.
        room: A - C of the same shape.
        chance_name: Which guess chance is.
        chance: Mean of C.
        anchor: Mean of A.
        tables: Membership and epsilon: scores of all candidates in each repeat; None for other kinds.
        exchange: Evidence exchanged between patients, averaged over repeats; None where there is none.
        numbers: Scores to show, averaged over repeats; those of membership are made of its tables (`raw`).
        seed: Seed of resampling: the same for every defense, so that comparisons are paired.
    """

    name: str
    endpoint: str
    channel: Any
    seat: str | None
    level: str | None
    round: int | None = None
    patients: tuple[str, ...]
    gain: Floats
    room: Floats
    chance_name: str
    chance: float
    anchor: float
    tables: MembershipTables | EpsilonTables | None = None
    exchange: Exchange | None = None
    numbers: Mapping[str, Raw] = field(default_factory=dict)
    seed: int = 0

    @property
    def kind(self) -> Kind:
        """What recovery means here."""
        return _KINDS.get(self.endpoint, "mask")

    @property
    def n(self) -> int:
        """Patients behind the number; for membership those of the smaller side, for epsilon canaries."""
        return self.tables.n if self.tables is not None else len(self.patients)

    @property
    def repeats(self) -> int:
        """Training repeats."""
        return len(self.tables.scores) if self.tables is not None else len(self.gain)

    @property
    def resolvable(self) -> bool:
        """Whether anchor - chance is large enough for a ratio."""
        return self.tables is not None or float(self.room.mean()) >= MIN_ROOM - 1e-9

    @property
    def value(self) -> float | None:
        """Leakage; None where the metric cannot resolve."""
        if self.tables is not None:
            return self.tables.value
        return float(self.gain.sum() / self.room.sum()) if self.room.sum() > 0 else None

    @property
    def per_patient(self) -> tuple[float, ...]:
        """Leakage of each patient, averaged over repeats; empty for membership."""
        if self.tables is not None or self.room.mean() <= 0:
            return ()
        return tuple(float(v) for v in self.gain.mean(axis=0) / self.room.mean())

    @cached_property
    def raw(self) -> Mapping[str, Raw]:
        """Scores in their own units, by name."""
        return self.numbers if self.tables is None else self.tables.raw()

    def interval(self, level: float = 0.95) -> Interval | None:
        """Return the two-sided interval over patients and repeats; None where nothing can be said."""
        if self.n < FEWEST:
            return None
        if self.tables is not None:
            return self.tables.interval(level)
        if self.room.mean() <= 0:
            return None
        if self.endpoint == "identity":
            # Of rates that are all zero a resampled interval has no width; Clopper-Pearson knows better.
            hits = float((self.gain.mean(axis=0) + self.chance).sum())
            rate = clopper_pearson(min(max(hits, 0.0), self.n), self.n, level)
            scale = self.chance + float(self.room.mean())
            return with_repeats(self.gain.mean(axis=1) / self.room.mean(), normalized(rate, self.chance, scale))
        return leakage_interval(self.gain, self.room, level=level, seed=self.seed)

    def shuffle_test(self) -> ShuffleTest | None:
        """Return the test of "this evidence is about its own patients": exchanges of evidence, or of memberships, in a site."""
        if self.tables is not None:
            return self.tables.test(self.seed)
        if self.exchange is None:
            return None
        return shuffle_test(self.exchange.matrix, seed=self.seed, groups=self.exchange.sites)

    def patient_bar(self) -> PatientBar | None:
        """Return what exchanged evidence reaches; None for membership, below 5 patients, or where the metric cannot resolve.

        The bar is the (1 - .05 / n) quantile of the gains of exchanged evidence. Divided by the mean of A - C, as a patient's
        own gain is, it is a leakage: what another patient's evidence would be said to leak about this one.
        """
        if self.exchange is None or len(self.exchange.patients) < FEWEST or not self.resolvable:
            return None
        bar = patient_limit(self.exchange.matrix)
        # Whether a patient is found first is no graded score: most exchanged evidence scores 0, some 1, and no quantile helps.
        limit = None if self.endpoint == "identity" else bar.limit / float(self.room.mean())
        return PatientBar(limit=limit, above=int(bar.above.sum()))


def merge(repeats: Sequence[Mapping[str, Any]], part: Literal["endpoints", "shuffled"], seed: int) -> dict[str, Merged]:
    """Merge the score cells of all repeats of one pairing, by endpoint name.

    Args:
        repeats: Content of `score.json` of each repeat.
        part: Real evidence or that of the shuffled messages.
        seed: Seed of resampling.
    """
    rows: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for result in repeats:
        for evidence in result["evidence"]:
            for endpoint in evidence[part] or ():
                single = len(evidence["endpoints"]) == 1 and endpoint["name"] in ("membership", "epsilon")
                name = evidence["name"] if single else f"{evidence['name']} {endpoint['name']}"
                rows.setdefault(name, []).append((evidence, endpoint))
    # An endpoint that some repeat lacks has no number of its own; the attack cell's error says why.
    whole = {name: found for name, found in rows.items() if len(found) == len(repeats)}
    return {name: _merged(name, found, seed) for name, found in whole.items()}


def _merged(name: str, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], seed: int) -> Merged:
    evidence, first = rows[0]
    endpoints = [endpoint for _, endpoint in rows]
    base = {"name": name, "endpoint": first["name"], "channel": evidence["channel"], "seed": seed}
    base |= {"seat": evidence["seat"], "level": evidence["level"], "round": evidence.get("round")}
    if first["name"] in ("membership", "epsilon"):
        epsilon, empty = first["name"] == "epsilon", np.empty((len(rows), 0))
        tables = EpsilonTables.of(endpoints) if epsilon else MembershipTables.of(endpoints)
        return Merged(
            **base, patients=tables.patients, gain=empty, room=empty, chance_name="coin toss", chance=0.0 if epsilon else 0.5,
            anchor=1.0, tables=tables,
        )  # fmt: skip
    order = sorted(first["patients"])
    arrays: dict[str, Floats] = {}
    for key in ("score", "chance", "anchor"):
        values = [dict(zip(e["patients"], e[key], strict=True)) for e in endpoints]
        arrays[key] = np.array([[v[p] for p in order] for v in values])
    return Merged(
        **base, patients=tuple(order), gain=arrays["score"] - arrays["chance"], room=arrays["anchor"] - arrays["chance"],
        chance_name=first["chance_name"], chance=float(arrays["chance"].mean()), anchor=float(arrays["anchor"].mean()),
        exchange=_exchange(endpoints), numbers=merge_raw([e["raw"] for e in endpoints]),
    )  # fmt: skip


def _exchange(endpoints: Sequence[Mapping[str, Any]]) -> Exchange | None:
    """Return the mean of the repeats' exchanged gains; the same patients are exchanged in each of them."""
    found = [e["exchange"] for e in endpoints]
    if any(e is None for e in found):
        return None
    matrix = np.mean([np.asarray(e["matrix"], dtype=np.float64) for e in found], axis=0)
    return Exchange(patients=tuple(found[0]["patients"]), sites=tuple(found[0]["sites"]), matrix=matrix)
