"""What the last layer says: labels, class fractions, tumor volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_gradients.calibration import learn
from leakaudit_gradients.last_layer import Moments, bias_gradient, class_fractions, label_of, last_layer, shares
from leakaudit_gradients.params import UpdateStatisticsParams
from leakaudit_gradients.statistics import UpdateStatistics
from torch import nn

from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit.wire import Seat, Secret

SGD = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0}


def volumes(made: Any, **params: Any) -> tuple[dict[str, float], dict[str, float]]:
    """The guessed and the true mean volume of every token, from the real messages."""
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    (piece,) = UpdateStatistics(UpdateStatisticsParams(**params), seat).run(made.view())
    share = (made.victims.labels > 0).sum(axis=(1, 2)) / made.victims.brain.sum(axis=(1, 2))
    truth = {token: float(share[made.sites[site]].mean()) for token, site in made.tokens.items()}
    assert piece.channel == "update"
    assert sorted(piece.about) == sorted(truth)
    return dict(zip(piece.about, piece.array.tolist(), strict=True)), truth


def test_volume_fractions_of_a_softmax_come_out_to_four_decimals() -> None:
    """The check of the derivation: 4 classes, 16 features, 5,000 voxels."""
    rng = np.random.default_rng(0)
    weight, features = rng.standard_normal((4, 16)), rng.standard_normal((5000, 16))
    bias = torch.tensor(0.1 * rng.standard_normal(4), requires_grad=True)
    labels = rng.choice(4, size=5000, p=[0.9, 0.04, 0.04, 0.02])
    logits = torch.tensor(features @ weight.T) + bias
    nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None
    found = class_fractions(torch.softmax(logits.detach(), dim=1).mean(dim=0), bias.grad)
    true = np.bincount(labels, minlength=4) / 5000
    assert np.round(true, 4).tolist() == [0.9002, 0.0382, 0.0382, 0.0234]
    assert np.round(found.numpy(), 4).tolist() == [0.9002, 0.0382, 0.0382, 0.0234]


def test_the_label_of_one_image_is_exact() -> None:
    torch.manual_seed(0)
    lenet = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2, stride=2), nn.Sigmoid(), nn.Conv2d(12, 12, 5, padding=2, stride=2), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(12 * 16, 10),
    )  # fmt: skip
    for _ in range(2):
        for label in range(10):
            loss = nn.functional.cross_entropy(lenet(torch.randn(1, 1, 16, 16)), torch.tensor([label]))
            (gradient,) = torch.autograd.grad(loss, lenet[5].weight)
            assert label_of(gradient) == label


@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_the_formula_is_the_gradient_of_the_tasks_own_loss(tools: Any, dice: float) -> None:
    task = tools.task(dice_weight=dice)
    rng = torch.Generator().manual_seed(0)
    bias = torch.tensor([-1.0, 0.2, 0.7], dtype=torch.float64, requires_grad=True)
    # Predictions that do not depend on the mask, on so many voxels that the means are those of each region.
    logits = torch.randn(1, 3, 500, 500, dtype=torch.float64, generator=rng) + bias.reshape(1, 3, 1, 1)
    share = torch.tensor([0.3, 0.1, 0.02], dtype=torch.float64)
    y = (torch.rand(1, 3, 500, 500, dtype=torch.float64, generator=rng) < share.reshape(1, 3, 1, 1)).double()
    (gradient,) = torch.autograd.grad(task.loss(logits, y).mean(), bias)
    filled = y.mean(dim=(0, 2, 3))
    moments = Moments.of(logits.detach())
    assert torch.allclose(bias_gradient(filled[None], moments, dice)[0], gradient, atol=5e-4)
    found = shares(gradient, moments, dice, filled.tolist())
    assert found == pytest.approx(filled.tolist(), abs=1e-9 if dice == 0 else 0.02)


def test_two_shares_can_have_one_gradient_under_dice_and_the_expected_one_is_taken() -> None:
    moments = Moments.of(torch.zeros(1, 1, 100, 100))
    wanted = bias_gradient(torch.tensor([[0.01]]), moments, 0.5)[0]
    small, large = (shares(wanted, moments, 0.5, [expected])[0] for expected in (0.0, 0.2))
    assert small == pytest.approx(0.01, abs=1e-3)
    assert large > small + 0.01
    assert torch.allclose(bias_gradient(torch.tensor([[large]]), moments, 0.5)[0], wanted, atol=1e-4)


def test_the_last_layer_of_the_network_is_its_head(tools: Any) -> None:
    weight, bias = last_layer(tools.task().build())
    assert weight.startswith("head.")
    assert bias.startswith("head.")
    with pytest.raises(ValueError, match="no layer of Linear has a bias"):
        last_layer(nn.Linear(2, 2, bias=False))


def test_the_volume_follows_from_one_step_by_formula(world: Any) -> None:
    made = world(counts=(1, 2, 1, 3), training=SGD | {"dice_weight": 0.0})
    found, truth = volumes(made, method="closed-form")
    for token, share in truth.items():
        assert found[token] == pytest.approx(share, rel=0.2, abs=0.02)
    assert volumes(made)[0] == found


def test_the_formula_takes_the_weight_decay_out(world: Any) -> None:
    made = world(counts=(1, 2, 1, 3), training=SGD | {"dice_weight": 0.0, "weight_decay": 0.5})
    found, truth = volumes(made, method="closed-form")
    for token, share in truth.items():
        assert found[token] == pytest.approx(share, rel=0.2, abs=0.02)


def test_the_volume_is_learned_where_no_formula_holds(world: Any) -> None:
    made = world(counts=(1, 2, 1, 2, 1, 1), training=SGD, local_epochs=2)
    found, truth = volumes(made, local_epochs=2, simulations=48)
    guess, true = (np.log([numbers[token] for token in sorted(truth)]) for numbers in (found, truth))
    share = (made.view().auxiliary.labels > 0).sum(axis=(1, 2)) / made.view().auxiliary.brain.sum(axis=(1, 2))
    assert np.abs(guess - true).mean() < 0.7 * np.abs(np.log(np.median(share)) - true).mean()


def test_a_defended_site_is_calibrated_through_its_replica(world: Any) -> None:
    made = world(counts=(1, 1), training=SGD, defended=True)
    view = made.view()
    seat = Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))
    UpdateStatistics(UpdateStatisticsParams(simulations=5), seat).run(view)
    assert {(seat_id, replica.calls) for seat_id, replica in view.replicas_given} == {("site-0", 5), ("site-1", 5)}


def test_the_formula_is_refused_where_it_does_not_hold(world: Any) -> None:
    made = world(training={"optimizer": "adam", "learning_rate": 1e-3})
    with pytest.raises(UserError, match="one local step of plain SGD"):
        volumes(made, method="closed-form")


def test_without_patients_of_its_own_the_adversary_is_told_what_it_lacks(world: Any) -> None:
    with pytest.raises(UserError, match="auxiliary patients with masks"):
        volumes(world(owns="noise"))


@pytest.mark.parametrize("logarithm", [False, True])
def test_the_map_finds_a_linear_law_and_one_of_the_logarithm(logarithm: bool) -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.standard_normal((40, 3)), np.full(40, 2.0)])
    linear = 0.05 * features[:, 0] - 0.02 * features[:, 2] + 0.3
    values = np.exp(20 * linear - 8) if logarithm else linear
    fitted = learn(features[:30], values[:30])
    assert fitted.link == ("logarithm" if logarithm else "identity")
    inside = (values[30:] > values[:30].min()) & (values[30:] < values[:30].max())
    assert np.allclose(fitted(features[30:])[inside], values[30:][inside], rtol=0.02)


def test_the_volume_is_read_from_the_whole_update_of_adam(world: Any, tools: Any) -> None:
    """The last layer's step of Adam is the sign of its gradient, which says nothing."""
    made = world(counts=(1,) * 12, auxiliary=tools.brains(60, seed=9), training={"optimizer": "adam", "learning_rate": 2e-3})
    found, truth = volumes(made)
    guess, true = (np.log([numbers[token] for token in sorted(truth)]) for numbers in (found, truth))
    own = made.view().auxiliary
    share = (own.labels > 0).sum(axis=(1, 2)) / own.brain.sum(axis=(1, 2))
    assert np.abs(guess - true).mean() < 0.7 * np.abs(np.log(np.median(share)) - true).mean()
