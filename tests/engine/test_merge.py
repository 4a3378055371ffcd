"""Repeats merged: what any of them lacks stays missing, exchanged evidence is averaged, memberships keep their own coins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from runs import fidelity, membership, piece

from leakaudit.attacks import Scores
from leakaudit.cohorts import Cohort
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.evidence_matrix import Exchange
from leakaudit.engine.membership_endpoints import Candidates, score_membership
from leakaudit.engine.merge import Merged, merge
from leakaudit.engine.raw import Raw, merge_raw
from leakaudit.scoring.membership import auc
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc


def merged(*repeats: Any, name: str = "x fidelity") -> Merged:
    return merge([{"evidence": [piece("x", [r])]} for r in repeats], "endpoints", 1)[name]


def scores(*repeats: dict[str, Any]) -> Merged:
    return merge([{"evidence": [piece("loss", [r], None, "output")]} for r in repeats], "endpoints", 1)["loss"]


def test_raw_numbers_are_averaged_over_repeats_and_missing_ones_stay_missing() -> None:
    first = {"mse": Raw(value=1.0, unit="dB", n=7).to_json(), "ms_ssim": Raw(value=0.5).to_json()}
    second = {"mse": Raw(value=2.0, unit="dB", n=7).to_json(), "ms_ssim": Raw(value=None, reason="too small").to_json()}
    found = merge_raw([first, second])
    assert found["mse"] == Raw(value=1.5, unit="dB", n=7)
    assert found["ms_ssim"] == Raw(value=None, reason="too small")
    assert merge_raw([first, {}])["mse"].reason == "a repeat lacks it"


def test_exchanged_evidence_is_averaged_over_repeats() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"p-{i:03d}" for i in range(6))
    matrices = rng.normal(size=(2, 6, 6))
    both = [fidelity([0.5] * 6, exchange=Exchange(patients=names, sites=("a",) * 6, matrix=m)) for m in matrices]
    found = merged(*both)
    assert found.exchange is not None
    np.testing.assert_allclose(found.exchange.matrix, matrices.mean(axis=0), atol=1e-4)
    assert merged(both[0], replace(both[1], exchange=None)).exchange is None
    assert merged(replace(both[0], exchange=None)).shuffle_test() is None


def test_the_bar_of_a_patient_needs_five_patients_and_a_metric_that_resolves() -> None:
    def of(n: int, anchor: float) -> Merged:
        names = tuple(f"p-{i:03d}" for i in range(n))
        exchange = Exchange(patients=names, sites=("a",) * n, matrix=np.eye(n) + np.arange(n * n).reshape(n, n) / 1000)
        return merged(fidelity([0.1] * n, anchor=np.full(n, anchor), exchange=exchange))

    assert of(4, 1.0).patient_bar() is None
    assert of(5, 0.1).patient_bar() is None
    whole, half = of(5, 1.0).patient_bar(), of(5, 0.5).patient_bar()
    assert whole is not None
    assert half is not None
    assert whole.above == half.above == 5
    assert whole.limit is not None
    assert half.limit == pytest.approx(2 * whole.limit), "on the scale of leakage, (S - C) / mean(A - C)"


def test_membership_shows_areas_and_rates_with_their_numbers() -> None:
    rng = np.random.default_rng(0)
    e = membership(rng, 1.0, 40, blind=0.0)
    raw = scores(e).raw
    values, inside = np.array(e["score"]), np.array(e["member"])
    assert raw["auc"].value == pytest.approx(auc(values[inside], values[~inside]))
    assert raw["auc"].interval is not None
    expected = newcombe_auc(raw["auc"].value, 40, 40)
    assert (raw["auc"].interval.low, raw["auc"].interval.high) == pytest.approx((expected.low, expected.high))
    assert raw["auc_within_sites"].n == 40
    assert raw["sites_compared"].value == 2
    assert raw["auc_blind"].value == pytest.approx(0.5, abs=0.15)
    assert 0.55 < (raw["balanced_accuracy"].value or 0) < 0.85
    for label, needed in (("1", "100"), ("0_1", "1,000")):
        low = raw[f"tpr_at_{label}_percent_fpr"]
        assert low.value is None
        assert low.reason == f"not resolvable: needs {needed} non-members; there are 40 non-members"


def test_low_rates_have_a_threshold_from_other_non_members() -> None:
    e = membership(np.random.default_rng(0), 3.0, 100)
    raw = scores(e).raw
    tpr, fpr = raw["tpr_at_1_percent_fpr"], raw["fpr_reached_at_1_percent"]
    assert tpr.value is not None
    assert fpr.value is not None
    assert 0.5 < tpr.value < 0.95
    assert fpr.value <= 0.03
    expected = clopper_pearson(tpr.value * 100, 100)
    assert tpr.interval is not None
    assert (tpr.interval.low, tpr.interval.high) == pytest.approx((expected.low, expected.high))
    assert raw["tpr_at_0_1_percent_fpr"].value is None
    own = np.sort(np.array(e["score"])[100:])[-1]
    assert tpr.value != np.mean(np.array(e["score"])[:100] > own), "not the threshold of the very patients it is used on"


def test_repeats_keep_their_own_coins() -> None:
    """Canaries: a candidate is a member in one training and none in the next."""
    rng = np.random.default_rng(0)
    first = membership(rng, 2.0, 20)
    second = {**membership(rng, 0.0, 20), "member": [bool(b) for b in rng.permutation([True] * 25 + [False] * 15)]}
    second["score"] = (np.array(second["score"]) + 2.0 * np.array(second["member"])).tolist()
    both = scores(first, second)
    assert both.tables is not None
    assert both.tables.advantages() == pytest.approx([scores(first).value, scores(second).value])
    assert both.n == 15
    assert both.tables.test(0).p == 0.001


def test_one_member_has_no_threshold_from_other_members() -> None:
    e = membership(np.random.default_rng(0), 1.0, 1)
    raw = scores({**e, "site": ["a", "a"]}).raw
    assert raw["balanced_accuracy"].value is None
    assert raw["balanced_accuracy"].reason == "not resolvable: a threshold from other patients needs 2 a side"
    assert scores({**e, "site": ["a", "a"]}).interval() is None


def test_without_a_shared_site_the_site_itself_is_the_blind_baseline() -> None:
    e = membership(np.random.default_rng(0), 0.0, 20, blind=0.0)
    apart = {**e, "site": ["a"] * 20 + ["b"] * 20, "blind_pooled": [1.0] * 20 + [0.0] * 20}
    found = scores(apart)
    assert found.tables is not None
    blind = found.tables.blind_advantage()
    assert blind is not None
    assert blind[0] == 1.0
    assert blind[1] is not None
    assert blind[1].low > 0
    within = scores(e).tables
    assert within is not None
    assert abs(within.blind_advantage()[0]) < 0.5  # type: ignore[index]


# The blind baseline of candidates --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    phantom = Phantom(PhantomParams(patients=40, size=32, sites=2), 3)
    return phantom.load([e.patient for e in phantom.inventory().patients])


def test_members_from_another_scanner_are_told_apart_without_the_model(cohort: Cohort) -> None:
    """The darker half of every member's image is dimmed further; nobody trained anything."""
    coins = {p: i % 4 < 2 for i, p in enumerate(cohort.patients)}
    plain = membership_of(cohort, coins)
    assert plain.tables is not None
    inside = np.array([coins[s.patient] for s in cohort.samples])[:, None, None, None]
    dimmed = replace(cohort, images=np.where(inside & (cohort.images < 0), 1.5 * cohort.images, cohort.images).astype(np.float32))
    other = membership_of(dimmed, coins)
    assert other.tables is not None
    found, reference = other.tables.blind_advantage(), plain.tables.blind_advantage()
    assert found is not None
    assert reference is not None
    assert found[0] > 0.8 > reference[0]
    assert found[1] is not None
    assert found[1].low > 0


def membership_of(cohort: Cohort, coins: dict[str, bool]) -> Merged:
    about = tuple(f"t{i}" for i in range(len(coins)))
    piece_ = Scores(name="s", channel="output", about=about, scores=np.arange(len(coins), dtype=np.float32))
    return scores(score_membership(piece_, dict(zip(about, coins, strict=True)), Candidates(cohort, coins)))


def test_the_blind_baseline_does_not_depend_on_the_order_of_candidates(cohort: Cohort) -> None:
    coins = {p: i % 3 == 0 for i, p in enumerate(cohort.patients)}
    order = np.random.default_rng(0).permutation(len(cohort))
    mixed = {p: coins[p] for p in np.random.default_rng(1).permutation(list(coins)).tolist()}
    assert Candidates(cohort, coins).blind() == Candidates(cohort.take(order), mixed).blind()


def test_tumors_are_no_part_of_the_blind_baseline(cohort: Cohort) -> None:
    coins = {p: i % 2 == 0 for i, p in enumerate(cohort.patients)}
    bare = replace(cohort, labels=np.zeros_like(cohort.labels))
    assert Candidates(cohort, coins).blind() == Candidates(bare, coins).blind()


def test_a_side_of_one_has_no_blind_baseline(cohort: Cohort) -> None:
    coins = {p: i == 0 for i, p in enumerate(cohort.patients)}
    assert Candidates(cohort, coins).blind() == {}
    found = membership_of(cohort, coins)
    assert found.tables is not None
    assert found.tables.blind_advantage() is None
