"""The networks: shapes in 2D and 3D, and that no sample's result depends on its company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leakaudit_hijacking.networks import Critic, Pilot, decoder_for
from leakaudit_hijacking.wgan import gradient_penalty

SETTINGS = [
    ((32, 32), {"level0": (8, 32, 32), "level1": (16, 16, 16)}),
    ((32, 32), {"level2": (8, 8, 8)}),
    ((25, 21), {"level1": (4, 13, 11)}),
    ((16, 16, 16), {"level0": (4, 16, 16, 16), "level2": (8, 4, 4, 4)}),
]


@pytest.mark.parametrize(("shape", "levels"), SETTINGS)
@pytest.mark.parametrize("kind", ["linear", "normalized"])
def test_a_pilot_gives_features_of_the_shapes_that_the_client_sends(shape: Any, levels: Any, kind: Any) -> None:
    found = Pilot(2, shape, levels, kind)(torch.randn(3, 2, *shape))
    assert {name: tuple(t.shape) for name, t in found.items()} == {name: (3, *size) for name, size in levels.items()}


@pytest.mark.parametrize(("shape", "levels"), SETTINGS)
@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_a_decoder_gives_images_in_full_size(shape: Any, levels: Any, kind: Any) -> None:
    for size in levels.values():
        assert decoder_for(kind, size, shape, 2, 8)(torch.randn(3, *size)).shape == (3, 2, *shape)


def test_a_linear_pilot_and_decoder_are_affine() -> None:
    torch.manual_seed(0)
    pilot, decoder = Pilot(1, (16, 16), {"level1": (4, 8, 8)}, "linear"), decoder_for("linear", (4, 8, 8), (16, 16), 1, 8)
    x, y = torch.randn(2, 1, 1, 16, 16)

    def through(image: torch.Tensor) -> torch.Tensor:
        return decoder(pilot(image)["level1"])

    torch.testing.assert_close(through((x + y) / 2), (through(x) + through(y)) / 2, atol=1e-5, rtol=1e-4)


def test_samples_are_scored_and_decoded_alike_alone_and_in_company() -> None:
    torch.manual_seed(0)
    z = torch.randn(5, 4, 16, 16)
    critic, decoder = Critic(4, (16, 16), width=8, blocks=2), decoder_for("residual", (4, 16, 16), (16, 16), 1, 8)
    torch.testing.assert_close(critic(z)[2:3], critic(z[2:3]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(decoder(z)[2:3], decoder(z[2:3]), atol=1e-5, rtol=1e-4)
    assert critic(z).shape == (5,)


@pytest.mark.parametrize("size", [(16, 16), (9, 7), (8, 8, 8)])
def test_a_critic_can_be_differentiated_twice(size: Any) -> None:
    critic = Critic(2, size, width=4, blocks=1)
    gradient_penalty(critic, torch.randn(2, 2, *size), torch.randn(2, 2, *size), torch.rand(2), "channel").backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())


@pytest.mark.parametrize(("level", "words"), [((4, 64, 64), "finer than the image"), ((4, 8), "spatial axes")])
def test_what_is_no_feature_map_of_the_image_is_refused(level: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decoder_for("residual", level, (32, 32), 1, 8)
