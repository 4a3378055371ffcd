"""Laplace noise, quantization and projection: their exact effects, and the Fisher bound that noise gives."""

from __future__ import annotations

import pytest
import torch
from leakaudit_cut.compression import Quantization, RandomProjection, quantize
from leakaudit_cut.fisher import dfil, jacobian_trace, mse_bound
from leakaudit_cut.noise import LaplaceNoise
from leakaudit_cut.params import LaplaceNoiseParams, QuantizationParams, RandomProjectionParams

from leakaudit.facts import SeatFacts
from leakaudit.wire import Message, Seat, Secret


def seat(seed: int = 0) -> Seat:
    return Seat(SeatFacts(id="client-0", role="client"), Secret.from_seed(seed, "client-0"))


def message(**tensors: torch.Tensor) -> Message:
    return Message(channel="activation", sender="client-0", receiver="server", round=0, step=0, tensors=tensors)


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_laplace_noise_has_its_scale_and_its_tails() -> None:
    z = draw(8, 8, 32, 32)
    noise = LaplaceNoise(LaplaceNoiseParams(scale=0.7), seat()).outgoing(message(level0=z)).tensors["level0"] - z
    assert noise.abs().mean().item() == pytest.approx(0.7, rel=0.02)  # E|x| = b
    assert noise.var().item() == pytest.approx(2 * 0.7**2, rel=0.03)
    assert ((noise / noise.std()) ** 4).mean().item() == pytest.approx(6.0, abs=0.5)


def test_laplace_clipping_bounds_the_l1_norm_over_all_levels() -> None:
    sent = LaplaceNoise(LaplaceNoiseParams(scale=0, clip=5.0), seat()).outgoing(
        message(level0=draw(4, 2, 8, 8), level1=draw(4, 2, 4, 4))
    )
    norms = torch.cat([t.flatten(1) for t in sent.tensors.values()], dim=1).abs().sum(dim=1)
    torch.testing.assert_close(norms, torch.full((4,), 5.0))


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantization_leaves_that_many_values_within_half_a_step(bits: int) -> None:
    z = draw(5, 4, 16, 16)
    sent = Quantization(QuantizationParams(bits=bits), seat()).outgoing(message(level0=z)).tensors["level0"]
    for one, before in zip(sent, z, strict=True):
        step = (before.max() - before.min()) / (2**bits - 1)
        assert len(torch.unique(torch.round((one - before.min()) / step))) <= 2**bits
        assert (one - before).abs().max() <= step / 2 + 1e-5


def test_quantization_of_a_sample_ignores_the_others_and_passes_gradients() -> None:
    z = draw(3, 2, 8, 8)
    torch.testing.assert_close(quantize(z, 2)[:1], quantize(z[:1], 2))
    z.requires_grad_()
    (quantize(z, 2) * 3).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.full_like(z, 3))
    constant = torch.full((1, 2, 4, 4), 7.0)
    torch.testing.assert_close(quantize(constant, 4), constant)


def test_projection_keeps_a_subspace_and_no_more() -> None:
    z = draw(6, 8, 8, 8)
    defense = RandomProjection(RandomProjectionParams(keep=0.25), seat())
    sent = defense.outgoing(message(level0=z)).tensors["level0"]
    assert sent.shape == z.shape
    assert not sent[:, 2:].any()
    matrix = defense.public_state()["level0"]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(sent[:, :2], torch.einsum("kc,nchw->nkhw", matrix, z))


def test_the_projection_stays_and_is_secret_without_the_defense_s_state() -> None:
    z = draw(2, 8, 4, 4)
    first, other = (RandomProjection(RandomProjectionParams(keep=0.5), seat(i)) for i in (0, 1))
    once, twice = (first.outgoing(message(level0=z)).tensors["level0"] for _ in range(2))
    assert torch.equal(once, twice)
    assert not torch.equal(other.outgoing(message(level0=z)).tensors["level0"], once)
    other.load_public_state(first.public_state())
    assert torch.equal(other.outgoing(message(level0=z)).tensors["level0"], once)


def test_the_jacobian_s_trace_of_a_linear_client_is_its_squared_norm() -> None:
    weight = draw(12, 9)
    trace = jacobian_trace(lambda x: x.flatten(1) @ weight.T, draw(3, 1, 3, 3), torch.Generator().manual_seed(0), probes=4000)
    torch.testing.assert_close(trace, weight.square().sum().expand(3), rtol=0.05, atol=0)


def test_no_unbiased_attacker_beats_the_bound_and_an_orthogonal_client_meets_it() -> None:
    x, scale = draw(4000, 1, 3, 3), 0.3
    for weight, tight in ((torch.linalg.qr(draw(9, 9))[0] * 2.0, True), (draw(12, 9), False)):
        probe = dfil(lambda v, w=weight: v.flatten(1) @ w.T, x[:4], scale, torch.Generator().manual_seed(0), probes=2000)
        bound = mse_bound(probe).mean().item()
        noisy = x.flatten(1) @ weight.T + scale * draw(4000, len(weight), seed=7)
        guess = noisy @ torch.linalg.pinv(weight).T  # least squares: unbiased, and the best of its kind
        error = (guess - x.flatten(1)).square().mean().item()
        assert error >= bound * 0.97
        assert (error <= bound * 1.05) == tight
