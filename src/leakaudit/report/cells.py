"""Small cells: no number about fewer real patients than a minimum, and no exact count of so few, leaves a run.

A cell is a group of patients. With few of them a mean is nearly a person's own value, and a missing number may say what
somebody does not have (no Dice of the enhancing tumor: no enhancing tumor).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from leakaudit.report.base import Count, Measured
from leakaudit.report.model import Baseline, Comparison, DataFacts, Report, Utility
from leakaudit.report.pairings import Controls, Endpoint, Leakage, Pairing, Strongest
from leakaudit.report.privacy import every_text
from leakaudit.report.trainings import Information

__all__ = ["coarse", "suppress"]

M = TypeVar("M", bound=Measured)
Place = tuple[str, str]

_PEOPLE = r"(?:non-members?|members?|patients?|cases?|subjects?|persons?|people)"
_COUNTED = re.compile(
    rf"\b(?P<n>\d{{1,4}}|[Oo]ne)(?P<of>\s+of\s+(?:the\s+)?(?P<all>\d{{1,6}}))?(?P<word>\s+(?:(?!of\b)[a-z-]+\s+){{0,3}}?{_PEOPLE})\b"
)
_ONE = re.compile(r"(?P<word>(?:member|patient|case|subject|person))$")
_BY_PATIENT = re.compile(r"\bworst of (\d+)|\bof (\d+) patients are above\b|\bnone of (\d+) leaked\b|\bof such patients\b")
_SENTENCES = re.compile(r"(?<=\.)\s+")


def suppress(report: Report, cell: int, support: Mapping[Place, Mapping[str, int]]) -> Report:
    """Return a report in which nothing rests on fewer than `cell` patients; to be applied to real ones only.

    Counts below it become `fewer than <cell>`, and numbers from so few patients are missing with that reason: leakage, its
    controls and raw scores, the worst patient, values by patient, Dice. Notes count in words ("in fewer than 5 patients"), and
    where all but so few are meant, too. Statuses stay: they say what the whole evidence allows.

    Args:
        report: The report, as assembled.
        cell: The minimum; 1 leaves the report as it is.
        support: Test patients behind the Dice of each region, by (protocol, defense).
    """
    if cell <= 1:
        return report
    return _Suppressed(report, cell, support).report()


def coarse(text: str, cell: int) -> str:
    """Return a text in which counts of fewer than `cell` patients, or of all but so few, are no longer exact."""

    def replaced(match: re.Match[str]) -> str:
        n = 1 if match["n"].lower() == "one" else int(match["n"])
        everybody = int(match["all"]) if match["all"] else None
        upper = match["n"] == "One"
        word = _ONE.sub(lambda m: "people" if m["word"] == "person" else f"{m['word']}s", match["word"])
        if everybody is not None and 0 < everybody < cell:
            return f"some of fewer than {cell}{word}"
        if 0 < n < cell:
            few = f"{'Fewer' if upper else 'fewer'} than {cell}"
        elif everybody is not None and 0 < everybody - n < cell:
            few = f"all but fewer than {cell}"
        else:
            return match.group()
        return few + (match["of"] or "") + word

    return _COUNTED.sub(replaced, text)


@dataclass
class _Suppressed:
    source: Report
    cell: int
    support: Mapping[Place, Mapping[str, int]]

    def __post_init__(self) -> None:
        patients = self.source.data.patients
        self.few = f"fewer than {self.cell}"
        self.why = f"it rests on {self.few} real patients, too few to be shown (report.min_cell)"
        self.members_hidden = any(self._is_small(n) for n in (patients.members, patients.non_members))
        self.test_hidden = self._is_small(patients.test)
        self.hidden: set[tuple[str, str, str, str]] = set()
        """(protocol, defense, attack, kind) of every endpoint that is not shown."""

    def report(self) -> Report:
        pairings = [self._pairing(p) for p in self.source.pairings]
        update = {
            "data": self._data(self.source.data), "pairings": pairings, "limitations": self._limitations(),
            "baselines": [self._baseline(b) for b in self.source.baselines],
            "comparisons": [self._comparison(c) for c in self.source.comparisons],
            "equal_utility": [] if self.test_hidden else [
                e for e in self.source.equal_utility if not self._kind_hidden(e.protocol, e.kind)
            ],
        }  # fmt: skip
        return every_text(self.source.model_copy(update=update), self._told)

    def _told(self, text: str) -> str:
        """Return a text without sentences about single patients of few, and without exact counts of few."""
        kept = [s for s in _SENTENCES.split(text) if not any(self._is_small(n) for n in _numbers(s))]
        return coarse(" ".join(kept) or self.why, self.cell) if text else text

    def _is_small(self, n: Count | None) -> bool:
        return isinstance(n, int) and 0 < n < self.cell

    def _count(self, n: Count) -> Count:
        return self.few if self._is_small(n) else n

    def _missing(self, part: M) -> M:
        """Return a part without its number; one that has none says why already."""
        if part.value is None:
            return part.model_copy(update={"ci": None})
        return part.model_copy(update={"value": None, "ci": None, "reason": self.why})

    def _data(self, data: DataFacts) -> DataFacts:
        counts = {name: self._count(getattr(data.patients, name)) for name in type(data.patients).model_fields}
        return data.model_copy(update={"patients": data.patients.model_copy(update=counts), "min_cell": self.cell})

    def _limitations(self) -> list[str]:
        kept = [_without_tail(line) for line in self.source.limitations] if self._attacked_few() else self.source.limitations
        shown = f"Counts of {self.few} real patients and numbers that rest on so few are not shown."
        return [line for line in kept if line] + [shown]

    def _attacked_few(self) -> bool:
        return any(self._is_small(e.leakage.patients) for p in self.source.pairings for e in p.endpoints) or self._is_small(
            self.source.data.patients.members
        )

    # Pairings -----------------------------------------------------------------------------------------------------

    def _pairing(self, pairing: Pairing) -> Pairing:
        endpoints = []
        names = set()
        for endpoint in pairing.endpoints:
            crafted = endpoint.kind in ("membership", "epsilon") and "cohort" in pairing.threat.alters  # canaries are nobody
            few = not crafted and self._is_small(endpoint.leakage.patients)
            few = few or (endpoint.kind == "membership" and not crafted and self.members_hidden)
            if few:
                names.add(endpoint.name)
                self.hidden.add((pairing.protocol, pairing.defense, pairing.attack, endpoint.kind))
            endpoints.append(self._without(endpoint) if few else self._shown(endpoint))
        update: dict[str, object] = {"endpoints": endpoints, "controls": self._controls(pairing.controls, few=bool(names))}
        if names:
            reasons = [reason for r in pairing.reasons if (reason := _without_tail(r))]
            update["reasons"] = reasons or [f"Nothing can be shown: {self.why}."]
            update["leakage"] = None if pairing.leakage is None else self._missing(pairing.leakage)
            update["claim"] = None if pairing.claim is None else pairing.claim.model_copy(update={"lower_bound": None})
        if self.test_hidden:
            update["sabotage"] = None
        return pairing.model_copy(update=update)

    def _without(self, endpoint: Endpoint) -> Endpoint:
        leakage = endpoint.leakage
        bare = Leakage(
            value=None, reason=leakage.reason if leakage.value is None else self.why, scope=leakage.scope,
            patients=self._count(leakage.patients), attack_seeds=leakage.attack_seeds,
        )  # fmt: skip
        raw = {name: self._missing(r).model_copy(update={"n": r.n and self._count(r.n)}) for name, r in endpoint.raw.items()}
        blind = None if endpoint.blind is None else self._missing(endpoint.blind)
        update = {"leakage": bare, "raw": raw, "blind": blind, "controls": self._controls(endpoint.controls, few=True)}
        return endpoint.model_copy(update=update)

    def _shown(self, endpoint: Endpoint) -> Endpoint:
        raw = {
            name: self._missing(r).model_copy(update={"n": self.few}) if self._is_small(r.n) else r
            for name, r in endpoint.raw.items()
        }
        return endpoint.model_copy(update={"raw": raw, "controls": self._controls(endpoint.controls, few=False)})

    def _controls(self, controls: Controls, *, few: bool) -> Controls:
        update: dict[str, object] = {}
        for name in ("positive", "negative", "planted"):
            control = getattr(controls, name)
            if control is not None and (few or self._is_small(control.n)):
                count = None if control.n is None else self._count(control.n)
                update[name] = self._missing(control).model_copy(update={"n": count})
                update["ratio"] = None
        test = controls.evidence_shuffle
        if test is not None and (few or self._is_small(test.n)):
            update["evidence_shuffle"] = None
        return controls.model_copy(update=update)

    # Baselines ----------------------------------------------------------------------------------------------------

    def _baseline(self, baseline: Baseline) -> Baseline:
        place = (baseline.protocol, baseline.defense)
        utility = self._utility(baseline.utility, self.support.get(place, {}))
        by_kind = [s if not self._is_hidden(place, s) else self._missing(s) for s in baseline.by_kind]
        strongest = baseline.strongest
        if strongest is not None and self._is_hidden(place, strongest):
            strongest = self._missing(strongest)
        reasons = [_without_tail(r) or self.why for r in baseline.reasons]
        update = {"utility": utility, "strongest": strongest, "by_kind": by_kind, "reasons": reasons}
        return baseline.model_copy(update=update | {"information": [self._information(i) for i in baseline.information]})

    def _information(self, information: Information) -> Information:
        if not self._is_small(information.images):
            return information
        hidden = {"dfil": self._missing(information.dfil), "mse": self._missing(information.mse)}
        return information.model_copy(update={**hidden, "images": self.few})

    def _is_hidden(self, place: Place, strongest: Strongest) -> bool:
        return any(
            (p, d) == place and strongest.attack in (None, attack) and strongest.kind in (None, kind)
            for p, d, attack, kind in self.hidden
        )

    def _kind_hidden(self, protocol: str, kind: str) -> bool:
        return any((p, k) == (protocol, kind) for p, _, _, k in self.hidden)

    def _utility(self, utility: Utility, support: Mapping[str, int]) -> Utility:
        if self._is_small(utility.n):
            update: dict[str, object] = {
                "dice": dict.fromkeys(utility.dice), "hd95": dict.fromkeys(utility.hd95), "ci": None, "n": self.few,
                "difference": utility.difference and self._missing(utility.difference), "reason": f"Dice: {self.why}.",
            }  # fmt: skip
            return utility.model_copy(update=update)
        small = {region for region, n in support.items() if self._is_small(n)}
        if not small:
            return utility
        hd95 = {region: None if region in small else value for region, value in utility.hd95.items()}
        if len(small) == 1:  # a single missing region could be computed from the mean and the others
            small |= set(sorted(set(support) - small, key=lambda region: support[region])[:1])
        dice = {region: None if region in small else value for region, value in utility.dice.items()}
        return utility.model_copy(update={"dice": dice, "hd95": hd95})

    def _comparison(self, c: Comparison) -> Comparison:
        hide: Callable[[Measured], Measured] = self._missing
        leakage = hide(c.leakage) if self._kind_hidden(c.protocol, c.kind) else c.leakage
        dice = hide(c.dice) if self.test_hidden else c.dice
        return c.model_copy(update={"leakage": leakage, "dice": dice})


def _without_tail(text: str) -> str:
    """Return a text without its sentences about single patients, and about the share that so few of them allow."""
    return " ".join(s for s in _SENTENCES.split(text) if not _BY_PATIENT.search(s))


def _numbers(sentence: str) -> list[int]:
    """Return of how many patients a sentence about single patients speaks."""
    return [int(n) for match in _BY_PATIENT.finditer(sentence) for n in match.groups() if n]
