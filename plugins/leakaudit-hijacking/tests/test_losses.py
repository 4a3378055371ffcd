"""The losses: signs, closed forms, and how a mask becomes a condition."""

from __future__ import annotations

import math

import pytest
import torch
from leakaudit_hijacking.adversarial import conditioned, deceive, discriminate
from leakaudit_hijacking.networks import Critic
from leakaudit_hijacking.wgan import client_loss, critic_loss, gradient_penalty
from torch import Tensor


def test_the_penalty_of_a_linear_critic_is_its_closed_form_whatever_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 4, 5, generator=generator)
    private, public = torch.randn(2, 6, 3, 4, 5, generator=generator)
    mix = torch.rand(6, generator=generator)

    def linear(x: Tensor) -> Tensor:
        return (x * weights).sum((1, 2, 3)) + 7

    whole = (weights.norm() - 1) ** 2
    by_channel = ((weights.flatten(1).norm(dim=1) - 1) ** 2).mean()
    torch.testing.assert_close(gradient_penalty(linear, private, public, mix, "image"), whole)
    torch.testing.assert_close(gradient_penalty(linear, private, public, mix, "channel"), by_channel)
    assert not torch.isclose(whole, by_channel)


def test_a_channelwise_penalty_is_zero_at_a_whole_norm_of_the_root_of_the_channels() -> None:
    weights = torch.zeros(4, 3, 3)
    weights[:, 1, 1] = 1
    x = torch.randn(2, 4, 3, 3)

    def linear(x: Tensor) -> Tensor:
        return (x * weights).sum((1, 2, 3))

    assert weights.norm() == math.sqrt(4)
    assert gradient_penalty(linear, x, x, torch.rand(2), "channel").item() == pytest.approx(0, abs=1e-6)
    assert gradient_penalty(linear, x, x, torch.rand(2), "image").item() == pytest.approx(1, abs=1e-6)


def test_the_penalty_looks_at_the_mixture_of_private_and_public_features() -> None:
    private, public, mix = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 1.0), torch.tensor([0.25])
    found = gradient_penalty(lambda x: x.square().sum((1, 2, 3)), private, public, mix, "image")
    at = 0.25 * 3 + 0.75 * 1
    assert found.item() == pytest.approx((2 * at - 1) ** 2)


def test_the_penalty_can_be_lowered_by_training_and_is_finite_for_a_flat_critic() -> None:
    scale = torch.zeros(1, requires_grad=True)
    x = torch.randn(2, 1, 3, 3)
    found = gradient_penalty(lambda x: (x * scale).sum((1, 2, 3)), x, x, torch.rand(2), "image")
    found.backward()
    assert found.item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(scale.grad).all()


def test_the_critic_raises_private_scores_and_the_client_lowers_its_own() -> None:
    private, public = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    critic_loss(private, public).backward()
    assert (private.grad < 0).all()
    assert (public.grad > 0).all()
    scores = torch.zeros(3, requires_grad=True)
    client_loss(scores).backward()
    assert (scores.grad > 0).all()  # so descending lowers the client's score, towards the pilot's


def test_a_critic_learns_to_tell_private_features_and_descending_its_score_moves_them_to_the_public_ones() -> None:
    torch.manual_seed(0)
    private, public = torch.randn(32, 2, 8, 8) + 1, torch.randn(32, 2, 8, 8) - 1
    critic = Critic(2, (8, 8), width=8, blocks=1)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = critic_loss(critic(private), critic(public))
        (loss + 10 * gradient_penalty(critic, private, public, torch.rand(32), "image")).backward()
        optimizer.step()
    assert critic(private).mean() > critic(public).mean() + 1
    z = private.clone().requires_grad_()
    for _ in range(20):
        (slope,) = torch.autograd.grad(client_loss(critic(z)), z)
        z = (z - 20 * slope).detach().requires_grad_()
    assert (z - public.mean()).norm() < (private - public.mean()).norm()


def test_adversarial_losses_at_known_scores() -> None:
    undecided = torch.zeros(4)
    assert deceive(undecided).item() == pytest.approx(math.log(2))
    assert discriminate(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    sure = torch.full((4,), 20.0)
    assert discriminate(sure, -sure).item() == pytest.approx(0, abs=1e-6)
    assert discriminate(-sure, sure).item() == pytest.approx(40, rel=1e-6)
    assert deceive(-sure).item() == pytest.approx(20, rel=1e-6)


def test_a_condition_is_averaged_to_the_size_of_the_level() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1
    seen = conditioned(torch.zeros(1, 2, 2, 2), mask)
    assert seen.shape == (1, 3, 2, 2)
    torch.testing.assert_close(seen[0, 2], torch.tensor([[0.5, 0.0], [0.5, 0.0]]))
    label = torch.tensor([[0.0, 1.0]])[:, :, None, None]
    assert conditioned(torch.zeros(1, 1, 3, 3), label)[0, 2].unique().tolist() == [1.0]
    assert conditioned(label, None) is label
