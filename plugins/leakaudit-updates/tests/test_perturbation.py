"""Noise, clipping and stochastic rounding do to updates what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from leakaudit_updates.params import UpdateClippingParams, UpdateNoiseParams, UpdateQuantizationParams
from leakaudit_updates.perturbation import UpdateClipping, UpdateNoise
from leakaudit_updates.quantization import UpdateQuantization, round_randomly
from leakaudit_updates.update import flat, magnitude_at


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_a_quantile_of_magnitudes_is_that_of_numpy(n: int, quantile: float) -> None:
    values = draw(n)
    expected = np.quantile(values.abs().numpy(), quantile)
    assert magnitude_at(values, quantile).item() == pytest.approx(float(expected), rel=1e-5)


def test_relative_noise_follows_the_percentile_of_what_moved(seat, update) -> None:
    moved = torch.cat([draw(20_000), torch.zeros(60_000)])  # zeros do not count: a percentile with them would be 0.4 as large
    given = update(a=moved[:50_000].reshape(50, 1000), b=moved[50_000:])
    sent = UpdateNoise(UpdateNoiseParams(sigma=0.5, percentile=95), seat()).outgoing(given).tensors
    expected = 0.5 * np.percentile(draw(20_000).abs().numpy(), 95)
    for name, t in given.tensors.items():
        noise = sent[name] - t
        assert noise.std().item() == pytest.approx(float(expected), rel=0.03)
        assert ((noise / noise.std()) ** 4).mean().item() == pytest.approx(3.0, abs=0.15)  # normal, not merely as wide


def test_absolute_noise_ignores_the_update_s_size(seat, update) -> None:
    for scale in (0.0, 100.0):
        given = update(a=scale * draw(20_000))
        sent = UpdateNoise(UpdateNoiseParams(sigma=0.5, scale="absolute"), seat()).outgoing(given)
        assert (sent.tensors["a"] - given.tensors["a"]).std().item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("scale", ["relative", "absolute"])
def test_without_sigma_the_update_is_sent_as_it_is(seat, update, scale: str) -> None:
    given = update(a=draw(5, 5))
    sent = UpdateNoise(UpdateNoiseParams(sigma=0, scale=scale), seat()).outgoing(given)
    assert torch.equal(sent.tensors["a"], given.tensors["a"])


def test_an_update_of_zeros_has_no_relative_scale(seat, update) -> None:
    sent = UpdateNoise(UpdateNoiseParams(sigma=5), seat()).outgoing(update(a=torch.zeros(9)))
    assert not sent.tensors["a"].any()


def test_clipping_scales_all_tensors_by_one_factor(seat, update) -> None:
    given = update(a=torch.tensor([3.0, 0.0]), b=torch.tensor([[4.0]]))
    clipping = UpdateClipping(UpdateClippingParams(norm=2.5), seat())
    sent = clipping.outgoing(given)
    torch.testing.assert_close(dict(sent.tensors), {"a": torch.tensor([1.5, 0.0]), "b": torch.tensor([[2.0]])})
    torch.testing.assert_close(dict(clipping.outgoing(sent).tensors), dict(sent.tensors))
    assert sent.weight == given.weight


def test_an_update_within_the_norm_is_sent_as_it_is(seat, update) -> None:
    given = update(a=draw(5), b=torch.zeros(3))
    sent = UpdateClipping(UpdateClippingParams(norm=1e3), seat()).outgoing(given)
    assert all(torch.equal(sent.tensors[k], t) for k, t in given.tensors.items())


def test_an_update_of_zeros_survives_clipping(seat, update) -> None:
    zeros = torch.zeros(3, requires_grad=True)
    sent = UpdateClipping(UpdateClippingParams(), seat()).outgoing(update(a=zeros)).tensors["a"]
    (gradient,) = torch.autograd.grad(sent.sum(), zeros)
    assert torch.equal(gradient, torch.ones(3))


def test_rounding_takes_the_two_neighbors_and_is_unbiased(seat, update) -> None:
    # Three bits: seven values, 0, 1, 2, 3 and their negatives here, since the largest magnitude is 3.
    entries = torch.tensor([3.0, -3.0, 0.0, 1.25, -0.5, 1.0])
    sent = UpdateQuantization(UpdateQuantizationParams(bits=3), seat()).outgoing(update(a=entries.repeat(20_000, 1))).tensors["a"]
    seen = [sorted(set(column.tolist())) for column in sent.T]
    assert seen == [[3.0], [-3.0], [0.0], [1.0, 2.0], [-1.0, 0.0], [1.0]]
    torch.testing.assert_close(sent.mean(dim=0), entries, atol=4 * 0.5 / 20_000**0.5, rtol=0.0)


def test_two_bits_are_ternary_and_many_bits_change_little() -> None:
    t = draw(1000)
    generator = torch.Generator().manual_seed(0)
    largest = t.abs().max()
    assert set(round_randomly(t, 2, generator).tolist()) == {-largest.item(), 0.0, largest.item()}
    assert (round_randomly(t, 16, generator) - t).abs().max() <= largest / (2**15 - 1)


def test_rounding_again_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    once = round_randomly(draw(5000), 4, generator)
    torch.testing.assert_close(round_randomly(once, 4, generator), once)


def test_rounding_takes_zeros_empty_tensors_and_passes_the_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not round_randomly(torch.zeros(4), 4, generator).any()
    assert round_randomly(torch.zeros(0), 4, generator).shape == (0,)
    t = draw(8).requires_grad_()
    (gradient,) = torch.autograd.grad(round_randomly(t, 2, generator).sum(), t)
    assert torch.equal(gradient, torch.ones(8))


def test_flat_of_nothing_is_empty() -> None:
    assert flat([]).shape == (0,)
