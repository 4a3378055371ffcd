"""Several runs of one attack become one result; where they differ is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leakaudit.engine.merge import merge
from leakaudit.engine.seeds import by_repeat, seed_spread
from leakaudit.scoring.checks import EvidenceError

PATIENTS = [f"p{i}" for i in range(8)]


def cell(scores: list[float], patients: list[str] = PATIENTS, **changes: Any) -> dict[str, Any]:
    """Return a score cell with one endpoint; chance 0, full recovery 1."""
    n = len(scores)
    endpoint = {
        "name": "fidelity", "patients": patients, "chance_name": "mean", "score": scores, "chance": [0.0] * n, "anchor": [1.0] * n,
        "raw": {"ssim": {"value": float(np.mean(scores)), "unit": "", "n": n, "reason": None}},
        "exchange": {"patients": patients, "sites": ["a"] * n, "matrix": np.diag(scores).tolist()},
    } | changes  # fmt: skip
    return {"evidence": [{**PIECE, "endpoints": [endpoint], "shuffled": [endpoint]}]}


PIECE = {"name": "guess", "channel": "activation", "seat": None, "level": None, "pictures": []}
NAME = "guess fidelity"


def membership(scores: list[float], patients: list[str] = PATIENTS) -> dict[str, Any]:
    member = [int(p[1:]) < 4 for p in patients]
    endpoint = {"name": "membership", "patients": patients, "score": scores, "member": member, "site": ["a"] * len(scores)}
    return {"evidence": [{**PIECE, "endpoints": [endpoint], "shuffled": None}]}


def test_one_run_is_taken_as_it_is() -> None:
    runs = [cell([0.1] * 8), cell([0.3] * 8)]
    assert by_repeat(runs, 1) == runs
    assert seed_spread(by_repeat(runs, 1), NAME) is None


def test_the_result_is_the_mean_of_each_patient_over_the_runs_of_a_repeat() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((6, 8))
    found = by_repeat([cell(s.tolist()) for s in scores], 3)
    merged = merge(found, "endpoints", 0)[NAME]
    assert merged.gain == pytest.approx(scores.reshape(2, 3, 8).mean(axis=1))
    assert merged.raw["ssim"].value == pytest.approx(scores.mean())
    assert merged.raw["ssim"].n == 8
    assert merge(found, "shuffled", 0)[NAME].gain == pytest.approx(merged.gain)
    assert np.diagonal(merged.exchange.matrix) == pytest.approx(scores.mean(axis=0))


def test_the_spread_is_that_of_the_repeat_in_which_runs_differ_most() -> None:
    runs = [cell([v] * 8) for v in (0.1, 0.2, 0.15, 0.5, 0.9, 0.7)]
    assert seed_spread(by_repeat(runs, 3), NAME) == pytest.approx(0.4)
    assert seed_spread(by_repeat(runs[:3], 3), NAME) == pytest.approx(0.1)


def test_runs_that_name_patients_in_another_order_are_aligned() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(8), rng.random(8)
    order = rng.permutation(8)
    matrix = rng.random((8, 8))
    names = [PATIENTS[i] for i in order]
    other = cell(second[order].tolist(), names)
    other["evidence"][0]["endpoints"][0]["exchange"]["matrix"] = matrix[np.ix_(order, order)].tolist()
    (found,) = by_repeat([cell(first.tolist()), other], 2)
    endpoint = found["evidence"][0]["endpoints"][0]
    assert endpoint["patients"] == PATIENTS
    assert endpoint["score"] == pytest.approx((first + second) / 2)
    assert np.array(endpoint["exchange"]["matrix"]) == pytest.approx((np.diag(first) + matrix) / 2)
    with pytest.raises(EvidenceError, match="different patients"):
        by_repeat([cell(first.tolist()), cell(second.tolist(), [f"q{i}" for i in range(8)])], 2)


def test_a_number_that_one_run_lacks_is_missing() -> None:
    lacking = cell([0.3] * 8, raw={"ssim": {"value": None, "unit": "", "n": None, "reason": "too small"}}, exchange=None)
    (found,) = by_repeat([cell([0.1] * 8), lacking], 2)
    merged = merge([found], "endpoints", 0)[NAME]
    assert merged.raw["ssim"].value is None
    assert merged.exchange is None
    (gone,) = by_repeat([cell([0.1] * 8), {"evidence": []}], 2)
    assert gone["evidence"] == []


def test_membership_is_the_mean_of_ranks_whatever_the_scale_of_a_run() -> None:
    good, bad = [8.0, 7, 6, 5, 4, 3, 2, 1], [1.0, 2, 3, 4, 5, 6, 7, 8]
    loud = [1e6 * v for v in bad]
    (found,) = by_repeat([membership(good), membership(good), membership(loud)], 3)
    merged = merge([found], "endpoints", 0)["guess"]
    assert merged.value == 1.0
    assert found["evidence"][0]["endpoints"][0]["score"] == pytest.approx((2 * np.array(good) + bad) / 3)
    assert found["evidence"][0]["endpoints"][0]["member"] == [True] * 4 + [False] * 4
    assert seed_spread([found], "guess") == pytest.approx(2.0)
    assert found["evidence"][0]["shuffled"] is None
