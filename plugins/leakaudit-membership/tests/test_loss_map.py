"""The parts of `membership-loss-map`: pooled loss maps by hand, and a classifier against what a minimum must satisfy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from leakaudit_membership.classifier import Logistic, fit_over_shadows
from leakaudit_membership.maps import loss_map
from leakaudit_membership.params import MembershipLossMapParams
from numpy.typing import NDArray
from pydantic import ValidationError

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import Requires, Shadows

FLOOR = 1e-4
COHORT = CohortFacts(modalities=("t1",), shape=(16, 16), members=4, auxiliary=4, sites=("a", "b"), records=4)


def auc(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    a, b = scores[member], scores[~member]
    return float(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))


def test_the_map_by_hand() -> None:
    logits, masks, brain = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    logits[..., 2:, :2] = -50.0  # the lower left cell is right and sure; the upper left one errs, and is tumor
    logits[..., :2, :2] = -2.0
    masks[:, 0, :2, :2] = 1
    brain[..., 2:, 2:] = 0  # the lower right cell has no brain
    coin, wrong, right = np.log(2), np.log1p(np.exp(2)), np.log1p(np.exp(-2))
    upper_left = (wrong + 2 * right) / 3
    mean = (coin + upper_left) / 3
    spread = np.sqrt(np.mean((np.array([coin, upper_left, 0]) - mean) ** 2))
    doubt = 1 - np.tanh(1)
    outside = (coin + right) / 3
    expected = [
        upper_left, coin, 0, mean, mean, spread,
        wrong, outside, outside,  # a region that is absent takes the mean over the brain
        coin / 2, outside, outside,
        doubt, 1, 0, (1 + doubt) / 3,
    ]  # fmt: skip
    found = loss_map(logits, masks, brain, grid=2, confidence=True)
    np.testing.assert_allclose(found[0].exp() - FLOOR, expected, atol=2e-6)
    torch.testing.assert_close(loss_map(logits, masks, brain, grid=2, confidence=False), found[:, :-4])


def test_voxels_outside_the_brain_tell_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, brain = torch.randn(2, 3, 8, 8, generator=draw), torch.zeros(2, 1, 8, 8)
    masks = (torch.rand(2, 3, 8, 8, generator=draw) > 0.5).float()
    brain[..., 2:7, 1:6] = 1
    other = torch.where(brain > 0, logits, torch.randn(2, 3, 8, 8, generator=draw))
    maps = [loss_map(x, masks, brain, grid=4, confidence=True) for x in (logits, other)]
    torch.testing.assert_close(*maps)


def test_volumes_and_grids_finer_than_the_image_work() -> None:
    logits = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    found = loss_map(logits, (logits > 0).float(), torch.ones(2, 1, 4, 6, 6), grid=5, confidence=True)
    assert found.shape == (2, 2 * 5**3 + 2 + 6)
    assert found.isfinite().all()


def test_the_fit_is_a_minimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, [1, 5, 0.1], (60, 3))
    y = x[:, 1] + rng.normal(0, 3, 60) > 3
    fitted = Logistic.fit(x, y, 0.1)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    residual = 1 / (1 + np.exp(-fitted(x))) - y
    np.testing.assert_allclose(z.T @ residual / 60 + 0.1 * fitted.weights[:-1], 0, atol=1e-3)
    assert residual.mean() == pytest.approx(0, abs=1e-3)


def test_separable_examples_and_constant_features_do_no_harm() -> None:
    x = np.stack([np.linspace(-1, 1, 40), np.full(40, 7.0)], axis=1)
    scores = Logistic.fit(x, x[:, 0] > 0, 1e-3)(x)
    assert np.isfinite(scores).all()
    assert auc(scores, x[:, 0] > 0) == 1


@pytest.mark.parametrize("features", [2, 60])
def test_members_are_told_by_any_feature_and_chance_stays_chance(features: int) -> None:
    rng = np.random.default_rng(1)
    inside = np.stack([rng.permutation(8) < 4 for _ in range(40)], axis=1)
    member = np.arange(40) < 20
    x, target = rng.normal(size=(8, 40, features)), rng.normal(size=(40, features))
    nothing = fit_over_shadows(x, inside)(target)
    assert abs(auc(nothing, member) - 0.5) < 0.2
    x[..., 1] -= 2 * inside
    target[:, 1] -= 2 * member
    assert auc(fit_over_shadows(x, inside)(target), member) > 0.85


def test_many_useless_features_are_shrunk_more_than_few_telling_ones() -> None:
    rng = np.random.default_rng(2)
    inside = np.stack([rng.permutation(4) < 2 for _ in range(20)], axis=1)
    noise = fit_over_shadows(rng.normal(size=(4, 20, 60)), inside)
    telling = fit_over_shadows(rng.normal(size=(4, 20, 1)) + 4 * inside[..., None], inside)
    assert np.abs(noise.weights[:-1]).max() < 0.2
    assert np.abs(telling.weights[0]) > 1


def test_shadow_models_that_all_hold_everybody_are_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to tell apart"):
        fit_over_shadows(np.zeros((4, 3, 2)), np.ones((4, 3), bool))


@pytest.mark.parametrize("params", [CentralizedParams(), SplitParams(), FederatedParams()])
def test_it_needs_what_online_lira_needs(params: CentralizedParams | SplitParams | FederatedParams) -> None:
    needs = MembershipLossMapParams(shadows=8).requires(params.facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.shadows == Shadows(count=8, pool="auxiliary+candidates")
    assert needs.threat.channels == ("output",)
    assert {"architecture", "defense", "candidates", "labels"} == set(needs.threat.knows)


@pytest.mark.parametrize("wrong", [{"grid": 0}, {"grid": 9}, {"shadows": 3}, {"difficulty": "some"}, {"mode": "none"}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MembershipLossMapParams.model_validate(wrong)


def test_it_is_listed_without_torch() -> None:
    code = (
        "import sys; from leakaudit_membership.plugin import leakaudit_attacks as a; names = [i.name for i in a()]; "
        "assert 'torch' not in sys.modules; print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "membership-loss-map" in done.stdout.split()
