"""Utility: Dice and HD95 of test patients, in millimeters where the cohort knows them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from runs import train

from leakaudit.cohorts import Cohort, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine import utility as engine_utility
from leakaudit.engine.cells.train import _utility
from leakaudit.engine.utility import mean_dice, mean_hd95, utility_of
from leakaudit.scoring.policy import Policy


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    phantom = Phantom(PhantomParams(patients=6, size=48, slices=2), 4)
    return phantom.load([e.patient for e in phantom.inventory().patients])


def measured(cohort: Cohort, guess: Any, patients: int = 6) -> dict[str, Any]:
    """Run the train cell's measurement on a model that answers `guess`."""

    class Answers:
        def __gt__(self, other: float) -> Answers:
            return self

        def numpy(self) -> Any:
            return guess > 0

    names = cohort.patients[:patients]
    training: Any = SimpleNamespace(
        cohort=cohort, split=SimpleNamespace(test=names), predict=lambda model, images: Answers()
    )  # fmt: skip
    return _utility(training, None)


def test_a_perfect_model_is_at_no_distance(cohort: Cohort) -> None:
    found = measured(cohort, regions(cohort.labels))
    assert found["hd95_unit"] == "mm"
    for dice, distance in zip(found["dice"], found["hd95"], strict=True):
        assert [None if d is None else 1.0 for d in dice] == dice
        assert [None if d is None else 0.0 for d in distance] == distance


def test_distances_are_in_millimeters_where_the_voxels_are_known(cohort: Cohort) -> None:
    moved = np.roll(regions(cohort.labels), 3, axis=-1)
    inside = cohort.labels[:, :, -3:].any() or cohort.labels[:, :, :3].any()
    assert not inside, "a shift must not leave the image"
    found = measured(cohort, moved)
    voxels = measured(replace(cohort, spacing={}), moved)
    assert (found["hd95_unit"], voxels["hd95_unit"]) == ("mm", "voxels")
    mm = 192 / 48
    for row, same in zip(found["hd95"], voxels["hd95"], strict=True):
        assert [None if d is None else d / mm for d in row] == pytest.approx(same)
    assert 0 < found["hd95"][0][0] <= 3 * mm


def test_a_model_that_finds_nothing_is_a_diagonal_away(cohort: Cohort) -> None:
    found = measured(cohort, np.zeros((len(cohort), 3, 48, 48)))
    there = [d for row in found["hd95"] for d in row if d is not None]
    assert there
    assert there == pytest.approx([192 * np.sqrt(2)] * len(there))


def test_a_split_without_test_patients_measures_nothing(cohort: Cohort) -> None:
    found = measured(cohort, regions(cohort.labels), patients=0)
    assert found["dice"] == found["hd95"] == []
    utility = utility_of([train([], hd95=[], hd95_unit="voxels")], None, Policy(), "")
    assert utility.reason == "The split has no test patients, so utility was not measured."
    assert utility.verdict is None


def test_hd95_is_the_mean_over_those_who_have_the_region() -> None:
    dice: list[list[float | None]] = [[0.8, 0.7, None], [0.9, 0.8, 0.7]]
    first = train(dice, hd95=[[3.0, 6.0, None], [5.0, 8.0, 2.0]], hd95_unit="mm")
    second = train(dice, hd95=[[5.0, 6.0, None], [7.0, 8.0, 4.0]], hd95_unit="mm")
    found = utility_of([first, second], None, Policy(), "")
    assert found.hd95 == {"WT": 5.0, "TC": 7.0, "ET": 3.0}
    assert found.hd95_unit == "mm"
    assert found.dice == mean_dice([*dice, *dice])
    nobody = train([[0.8, None, None]], hd95=[[3.0, None, None]], hd95_unit="voxels")
    assert mean_hd95([nobody]) == ({"WT": 3.0, "TC": None, "ET": None}, "voxels")
    assert mean_hd95([train(dice)]) == ({}, "voxels")


def test_the_difference_is_to_the_undefended_model_of_the_same_repeat() -> None:
    before = [train([[0.8, 0.8, 0.8]] * 5), train([[0.7, 0.7, 0.7]] * 5)]
    after = [train([[0.79, 0.79, 0.79]] * 5), train([[0.69, 0.69, 0.69]] * 5)]
    found = utility_of(after, before, Policy(), "")
    assert found.difference is not None
    assert found.difference[0] == pytest.approx(-0.01)
    assert found.verdict is not None
    assert found.verdict.status == "PASS"
    missing = utility_of(after, (), Policy(), "")
    assert missing.verdict is not None
    assert missing.verdict.status == "ERROR"
    alone = utility_of([train([[0.8, 0.8, 0.8]])], [train([[0.8, 0.8, 0.8]])], Policy(), "")
    assert alone.verdict is not None
    assert alone.verdict.status == "REVIEW"
    assert utility_of((), before, Policy(), "The cell failed: x").reason == "The cell failed: x"


def test_support_counts_patients_by_region() -> None:
    found = engine_utility.test_support({("split", "none"): [train([[0.8, None, 0.1], [0.7, None, None]])], ("split", "noise"): ()})
    assert found == {("split", "none"): {"WT": 2, "TC": 0, "ET": 1}}


def test_the_mean_lies_in_its_own_interval_where_few_patients_have_a_region() -> None:
    """Four patients of thirty have an enhancing tumor, and the model misses it: their share is theirs, not a third of all."""
    dice = [[0.9, 0.8, None]] * 26 + [[0.9, 0.8, 0.0]] * 4
    training = {"utility": {"patients": [f"p{i:02d}" for i in range(30)], "dice": dice, "hd95": dice, "hd95_unit": "mm"}}
    found = utility_of([training], None, Policy(), "")
    assert found.dice["ET"] == 0
    assert found.dice["mean"] == pytest.approx((26 * 0.85 + 4 * 1.7 / 3) / 30)
    assert found.interval is not None
    assert found.interval.low <= found.dice["mean"] <= found.interval.high
