"""Repeats of one endpoint merged, with its intervals: from score cells to the numbers that verdicts are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leakaudit.scoring.intervals import Interval, leakage_interval, with_repeats
from leakaudit.scoring.leakage import MIN_ROOM
from leakaudit.scoring.membership import auc, stratified_auc, tpr_at_fpr
from leakaudit.scoring.rates import clopper_pearson, normalized

__all__ = ["Merged", "merge"]

Floats = NDArray[np.float64]
FEWEST = 5
"""Below this many patients only values are shown, no intervals."""

_KINDS: dict[str, Literal["fidelity", "mask", "identity", "canary", "membership", "property"]] = {
    "fidelity": "fidelity", "identity": "identity", "canary": "canary", "membership": "membership",
    "tumor-volume": "property",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One endpoint of one pairing over all repeats.

    Attributes:
        name: Unique in its pairing.
        endpoint: `"fidelity"`, `"identity"`, ...
        channel: Channel it was taken from.
        seat: Seat it is about.
        level: Level it was taken from.
        patients: Patient keys, sorted; membership: all candidates.
        gain: S - C, (repeats, patients); membership: empty.
        room: A - C of the same shape.
        chance_name: Which guess chance is.
        chance: Mean of C.
        anchor: Mean of A.
        tables: Membership: (scores, member, sites) of each repeat.
        raw: Further numbers, averaged over repeats.
        seed: Seed of resampling: the same for every defense, so that comparisons are paired.
    """

    name: str
    endpoint: str
    channel: Any
    seat: str | None
    level: str | None
    patients: tuple[str, ...]
    gain: Floats
    room: Floats
    chance_name: str
    chance: float
    anchor: float
    tables: tuple[tuple[Floats, NDArray[np.bool_], list[str]], ...] = ()
    raw: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def kind(self) -> Literal["fidelity", "mask", "identity", "canary", "membership", "property"]:
        """What recovery means here."""
        return _KINDS.get(self.endpoint, "mask")

    @property
    def n(self) -> int:
        """Patients behind the number; for membership those of the smaller side."""
        if self.tables:
            member = self.tables[0][1]
            return int(min(member.sum(), (~member).sum()))
        return len(self.patients)

    @property
    def repeats(self) -> int:
        """Training repeats."""
        return len(self.tables) or len(self.gain)

    @property
    def resolvable(self) -> bool:
        """Whether anchor - chance is large enough for a ratio."""
        return bool(self.tables) or float(self.room.mean()) >= MIN_ROOM - 1e-9

    @property
    def value(self) -> float | None:
        """Leakage; None where the metric cannot resolve."""
        if self.tables:
            return float(np.mean(self._advantages()))
        return float(self.gain.sum() / self.room.sum()) if self.room.sum() > 0 else None

    @property
    def per_patient(self) -> tuple[float, ...]:
        """Leakage of each patient, averaged over repeats; empty for membership."""
        if self.tables or self.room.mean() <= 0:
            return ()
        return tuple(float(v) for v in self.gain.mean(axis=0) / self.room.mean())

    def _advantages(self) -> list[float]:
        return [2 * _within(*table).value - 1 for table in self.tables]

    def interval(self, level: float = 0.95) -> Interval | None:
        """Return the two-sided interval over patients and repeats; None where nothing can be said."""
        if self.n < FEWEST or (not self.tables and self.room.mean() <= 0):
            return None
        if self.tables:
            found = [_within(*table, level=level).leakage for table in self.tables]
            middle = Interval(
                float(np.mean([i.low for i in found])), float(np.mean([i.high for i in found])), found[0].method, level
            )
            return with_repeats(self._advantages(), middle)
        if self.endpoint == "identity":
            # Of rates that are all zero a resampled interval has no width; Clopper-Pearson knows better.
            hits = float((self.gain.mean(axis=0) + self.chance).sum())
            rate = clopper_pearson(min(max(hits, 0.0), self.n), self.n, level)
            scale = self.chance + float(self.room.mean())
            return with_repeats(self.gain.mean(axis=1) / self.room.mean(), normalized(rate, self.chance, scale))
        return leakage_interval(self.gain, self.room, level=level, seed=self.seed)


def _within(scores: Floats, member: NDArray[np.bool_], sites: list[str], *, level: float = 0.95) -> Any:
    # Without a site that has both kinds, the whole cohort is the only stratum left; `sites_compared` is then 0.
    strata = sites if _shared_sites(member, sites) else ["all"] * len(sites)
    return stratified_auc(scores, member, strata, level=level)


def _shared_sites(member: NDArray[np.bool_], sites: Sequence[str]) -> set[str]:
    """Return the sites that have members and others."""
    inside = {s for s, m in zip(sites, member, strict=True) if m}
    return inside & {s for s, m in zip(sites, member, strict=True) if not m}


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
                single = len(evidence["endpoints"]) == 1 and endpoint["name"] == "membership"
                name = evidence["name"] if single else f"{evidence['name']} {endpoint['name']}"
                rows.setdefault(name, []).append((evidence, endpoint))
    # An endpoint that some repeat lacks has no number of its own; the attack cell's error says why.
    whole = {name: found for name, found in rows.items() if len(found) == len(repeats)}
    return {name: _merged(name, found, seed) for name, found in whole.items()}


def _merged(name: str, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], seed: int) -> Merged:
    evidence, first = rows[0]
    base = {"name": name, "endpoint": first["name"], "channel": evidence["channel"], "seed": seed}
    base |= {"seat": evidence["seat"], "level": evidence["level"]}
    if first["name"] == "membership":
        tables = tuple(
            (np.asarray(e["score"], dtype=np.float64), np.asarray(e["member"], dtype=bool), list(e["site"])) for _, e in rows
        )
        empty = np.empty((len(rows), 0))
        return Merged(
            **base, patients=tuple(first["patients"]), gain=empty, room=empty, chance_name="coin toss", chance=0.5, anchor=1.0,
            tables=tables, raw=_membership_raw(tables),
        )  # fmt: skip
    order = sorted(first["patients"])
    arrays: dict[str, Floats] = {}
    for key in ("score", "chance", "anchor"):
        values = [dict(zip(e["patients"], e[key], strict=True)) for _, e in rows]
        arrays[key] = np.array([[v[p] for p in order] for v in values])
    raw = {k: float(np.mean([e["raw"][k] for _, e in rows])) for k in first["raw"]}
    return Merged(
        **base, patients=tuple(order), gain=arrays["score"] - arrays["chance"], room=arrays["anchor"] - arrays["chance"],
        chance_name=first["chance_name"], chance=float(arrays["chance"].mean()), anchor=float(arrays["anchor"].mean()), raw=raw,
    )  # fmt: skip


def _membership_raw(tables: Sequence[tuple[Floats, NDArray[np.bool_], list[str]]]) -> dict[str, float]:
    """Return the AUC within sites and over all, and the TPR at 1 % FPR where so few non-members can resolve it."""
    within = float(np.mean([_within(*t).value for t in tables]))
    pooled = float(np.mean([auc(s[m], s[~m]) for s, m, _ in tables]))
    scores, member, sites = tables[0]
    raw = {"auc_within_sites": within, "auc": pooled, "sites_compared": float(len(_shared_sites(member, sites)))}
    low = tpr_at_fpr(scores[member], scores[~member], 0.01)
    if low is not None:
        raw["tpr_at_1_percent_fpr"] = low.tpr[0]
    return raw
