"""Gradient canaries: one number at one place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leakaudit.models.canary import GradientCanary, add_canaries, canary_rows


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def test_a_row_has_one_number_and_its_norm_is_the_value():
    (row,) = canary_rows([GradientCanary(parameter="0.weight", index=4, value=-2.5)], network())
    assert list(row) == ["0.weight"]
    assert row["0.weight"].tolist() == [[0, 0, 0], [0, -2.5, 0]]


def test_it_is_added_as_a_row_of_a_batch_mean():
    net = network()
    net(torch.ones(1, 3)).sum().backward()
    before = net[0].weight.grad.clone()
    add_canaries([GradientCanary(parameter="0.weight", index=4, value=8.0)], net, share=0.25)
    change = net[0].weight.grad - before
    assert change.flatten().tolist() == [0, 0, 0, 0, 2, 0]


def test_it_needs_no_patient_in_the_batch():
    net = network()
    add_canaries([GradientCanary(parameter="1.bias", index=0, value=1.0)], net, share=1.0)
    assert net[1].bias.grad.tolist() == [1.0]
    assert net[0].weight.grad is None


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        (GradientCanary(parameter="2.weight", index=0, value=1.0), "does not have"),
        (GradientCanary(parameter="0.weight", index=6, value=1.0), "which has 6"),
        (GradientCanary(parameter="0.weight", index=-1, value=1.0), "which has 6"),
        (GradientCanary(parameter="0.weight", index=0, value=0.0), "finite number"),
        (GradientCanary(parameter="0.weight", index=0, value=float("inf")), "finite number"),
    ],
)
def test_what_the_network_does_not_have_is_refused(canary, words):
    with pytest.raises(ValueError, match=words):
        canary.check(network())
