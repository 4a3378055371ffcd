"""Attack seeds: several runs of one attack on the same recording, taken together as one result.

The result is the mean over the runs of each patient's score. Membership scores of two runs have no common scale, so there it
is the mean of each candidate's rank: what an adversary who runs the attack several times would do, and at least as strong as
a run picked at random. Where the runs themselves differ by more than the limit, the result hangs on luck, and the verdict
says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from leakaudit.engine.merge import merge
from leakaudit.scoring.checks import EvidenceError

__all__ = ["by_repeat", "seed_spread"]

_VALUES = "seed_values"


def by_repeat(scores: Sequence[Mapping[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Return one score cell's content per training repeat.

    Args:
        scores: Content of `score.json` of every run: all seeds of the first repeat, then those of the second, and so on.
        seeds: Runs of the attack on each training.
    """
    return [_together(scores[i : i + seeds]) for i in range(0, len(scores), seeds)]


def seed_spread(repeats: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the largest minus the smallest leakage over attack seeds, in the repeat where they differ most.

    Args:
        repeats: What `by_repeat` returned.
        name: Name of a merged endpoint.

    Returns:
        None where there is one seed, or no leakage.
    """
    found = [values for r in repeats if (values := r.get(_VALUES, {}).get(name))]
    return max((max(values) - min(values) for values in found), default=None)


def _together(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(runs) == 1:
        return dict(runs[0])
    evidence = []
    for piece in runs[0]["evidence"]:
        same = [next((e for e in run["evidence"] if e["name"] == piece["name"]), None) for run in runs]
        others = [e for e in same if e is not None]
        # Evidence that a run lacks has no mean; what is left out of one repeat is left out of all by `merge`.
        if len(others) == len(runs):
            evidence.append({**piece, **{part: _endpoints([e[part] for e in others]) for part in ("endpoints", "shuffled")}})
    values: dict[str, list[float]] = {}
    for run in runs:
        for name, merged in merge([run], "endpoints", 0).items():
            if merged.value is not None:
                values.setdefault(name, []).append(merged.value)
    return {**runs[0], "evidence": evidence, _VALUES: values}


def _endpoints(runs: Sequence[Sequence[Mapping[str, Any]] | None]) -> list[dict[str, Any]] | None:
    """Return the endpoints of one piece of evidence that every run has."""
    first = runs[0]
    if first is None or any(run is None for run in runs):
        return None
    found = []
    for endpoint in first:
        same = [next((e for e in run or () if e["name"] == endpoint["name"]), None) for run in runs]
        there = [e for e in same if e is not None]
        if len(there) == len(runs):
            found.append(_mean(there))
    return found


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one endpoint's mean over runs; of membership, the mean of ranks."""
    result: dict[str, Any] = _average(list(runs))
    if runs[0]["name"] in ("membership", "epsilon"):
        first = runs[0]["patients"]
        ranks = [stats.rankdata(_in_order(run, first)["score"]) for run in runs]
        result["score"] = np.mean(ranks, axis=0).tolist()
    return result


def _average(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, of lists and of mappings of numbers, piece by piece; of anything else, the first.

    A mapping with `patients` is put in the order of the first one's patients. What one run lacks stays missing.
    """
    first = values[0]
    if any(v is None for v in values):
        return None
    if isinstance(first, Mapping):
        same = [first, *(_in_order(v, first["patients"]) if "patients" in first else v for v in values[1:])]
        return {k: _average([v.get(k) for v in same]) for k in first}
    if isinstance(first, list) and all(isinstance(v, list) and len(v) == len(first) for v in values):
        return [_average(pieces) for pieces in zip(*values, strict=True)]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return float(np.mean(values)) if numbers else first


def _in_order(found: Mapping[str, Any], patients: Sequence[str]) -> Mapping[str, Any]:
    """Return a mapping whose lists by patient, and tables of patients by patients, follow the order of other patients.

    Raises:
        EvidenceError: They are not the same patients.
    """
    if list(found["patients"]) == list(patients):
        return found
    place = {p: i for i, p in enumerate(found["patients"])}
    if set(place) != set(patients):
        raise EvidenceError("two runs of one attack are about different patients")
    order = [place[p] for p in patients]

    def sorted_(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(order):
            return value
        rows = [value[i] for i in order]
        square = all(isinstance(row, list) and len(row) == len(order) for row in rows)
        return [[row[i] for i in order] for row in rows] if square else rows

    return {key: sorted_(value) for key, value in found.items()}
