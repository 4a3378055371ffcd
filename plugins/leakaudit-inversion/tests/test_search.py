"""The search for images: exact where the client is invertible, each target for itself, invariant where it should be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from leakaudit_inversion.explain import habits_of
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.prior import Prior, smoothed, total_variation
from leakaudit_inversion.search import Search, goals_of, relative_error, search
from leakaudit_inversion.span import Span, Track
from torch import Tensor, nn

from leakaudit.wire import Replica


def nothing(count: int, dtype: torch.dtype = torch.float64) -> Prior:
    return Prior(tv=torch.zeros(count, dtype=dtype))


def goals(sent: Mapping[str, Tensor], pooling: Pooling | None = None) -> Any:
    count = len(next(iter(sent.values())))
    return goals_of([sent], torch.ones(1, count), tuple(sent), pooling or Pooling(), {})


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.1))


@pytest.mark.parametrize("client", ["identity", "orthogonal"])
def test_an_invertible_linear_client_is_inverted_to_machine_precision(client: str) -> None:
    torch.manual_seed(0)
    basis = torch.eye(64, dtype=torch.float64)
    if client == "orthogonal":
        basis = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64))[0]

    def send(x: Tensor) -> dict[str, Tensor]:
        return {"level0": (x.flatten(1) @ basis).reshape(x.shape)}

    truth = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    found, loss = search(
        [send], goals(send(truth)), torch.zeros_like(truth), nothing(5), Search(iterations=1000, learning_rate=0.2)
    )
    # What crosses the wire is float32 at best: finer than its precision nothing can be known.
    assert (found - truth).abs().max() < torch.finfo(torch.float32).eps * truth.abs().max()
    assert loss.max() < 1e-13


def test_smoothed_gradients_end_at_the_same_image() -> None:
    truth = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    how = Search(iterations=1000, learning_rate=0.2, smoothing=1.0)
    found, _ = search([lambda x: {"z": x}], goals({"z": truth}), torch.zeros_like(truth), nothing(2), how)
    assert (found - truth).abs().max() < torch.finfo(torch.float32).eps * truth.abs().max()


def test_the_true_images_have_no_error_at_any_level_and_others_have() -> None:
    torch.manual_seed(1)
    net, truth = encoder(), torch.randn(3, 1, 16, 16)

    def send(x: Tensor) -> dict[str, Tensor]:
        z = net(x)
        return {"level0": z, "level1": nn.functional.avg_pool2d(z, 2)}

    sent = {k: t.detach() for k, t in send(truth).items()}
    how = Search(iterations=1, learning_rate=0.1)
    assert relative_error([send], goals(sent), truth, how).abs().max() == 0
    assert relative_error([send], goals(sent), torch.randn_like(truth), how).min() > 0.1


def test_dropped_entries_do_not_count_and_the_truth_has_no_error_under_dropout() -> None:
    net, generator = encoder(), torch.Generator().manual_seed(2)

    def send(x: Tensor) -> dict[str, Tensor]:
        z = net(x)
        return {"z": z * (torch.rand(z.shape, generator=generator) < 0.5) * 2}

    truth, pooling = torch.randn(2, 1, 16, 16, generator=generator), Pooling(frozenset({"z"}))
    seen = {k: t.detach() for k, t in send(truth).items()}
    error = {
        p: relative_error([send], goals(seen, p), truth, Search(iterations=1, learning_rate=0.1, pooling=p)).max().item()
        for p in (pooling, Pooling())
    }
    assert error[pooling] < 1e-10
    assert error[Pooling()] > 0.5


def test_targets_of_a_batch_do_not_influence_each_other() -> None:
    torch.manual_seed(3)
    # In double precision: a batch is rounded otherwise than a single image, and Adam's steps blow rounding up.
    net, truth = encoder().double(), torch.randn(4, 1, 16, 16).double()

    def send(x: Tensor) -> dict[str, Tensor]:
        return {"z": net(x)}

    sent = {k: t.detach() for k, t in send(truth).items()}
    tv = torch.tensor([0.0, 0.01, 0.1, 1.0]).double()
    prior = Prior(tv=tv, mean=torch.zeros(1).double(), spread=torch.ones(1).double(), pull=0.1)
    how = Search(iterations=25, learning_rate=0.1, smoothing=1.0)
    start = torch.zeros_like(truth)
    together, losses = search([send], goals(sent), start, prior, how)
    for i in range(4):
        own = Prior(tv=prior.tv[i : i + 1], mean=prior.mean, spread=prior.spread, pull=prior.pull)
        alone, loss = search([send], goals({"z": sent["z"][i : i + 1]}), start[i : i + 1], own, how)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-7, rtol=0)
        torch.testing.assert_close(losses[i : i + 1], loss, atol=1e-7, rtol=0)
    assert not torch.allclose(together, start, atol=0.1)


def test_each_target_keeps_its_own_best_state() -> None:
    truth = torch.stack([torch.zeros(1, 4, 4), torch.full((1, 4, 4), 5.0)]) + 0.1 * torch.randn(2, 1, 4, 4)
    sent = goals({"z": truth})
    # A step this large leaves the first target, which starts at its truth, at once; the second comes nearer.
    start = torch.cat([truth[:1], torch.zeros(1, 1, 4, 4)])
    found, loss = search([lambda x: {"z": x}], sent, start, nothing(2, torch.float32), Search(iterations=3, learning_rate=1.0))
    assert torch.equal(found[0], truth[0])
    assert loss[0] == 0
    assert 0.5 < found[1].mean() < 5


def test_noisy_levels_count_less_and_unseen_observations_not_at_all() -> None:
    draws = [{"a": torch.randn(2, 3, 4, 4), "b": torch.randn(2, 3, 4, 4)} for _ in range(2)]
    first, second = goals_of(draws, torch.tensor([[1.0, 1.0], [1.0, 0.0]]), ("a", "b"), Pooling(), {"a": 0.0, "b": 0.09})
    variance = draws[0]["a"].flatten(1).var(dim=1, correction=0)
    ratio = first["a"].weight * variance / (first["b"].weight * draws[0]["b"].flatten(1).var(dim=1, correction=0))
    torch.testing.assert_close(ratio, torch.full((2,), 10.0))
    assert second["a"].weight[1] == 0
    torch.testing.assert_close(first["a"].weight * variance, torch.tensor([0.5, 1.0]) * 10 / 11)


@pytest.mark.parametrize("shape", [(8, 8), (4, 6, 8)])
def test_total_variation_of_a_step_is_its_height_times_its_area(shape: tuple[int, ...]) -> None:
    x = torch.zeros(2, 1, *shape)
    x[1, 0, : shape[0] // 2] = 3.0
    flat, step = total_variation(x)[:, 0]
    assert flat == pytest.approx(1e-3, rel=1e-3)
    assert step == pytest.approx(3.0 / shape[0] + (1 - 1 / shape[0]) * 1e-3, rel=1e-3)


def test_the_prior_knows_no_scale_and_pulls_brightness_and_contrast_to_what_is_expected() -> None:
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean()) / x.std(correction=0)
    plain = Prior(tv=torch.ones(1))
    assert plain(10 * x + 3).item() == pytest.approx(plain(x).item(), rel=1e-2)
    pulled = Prior(tv=torch.zeros(1), mean=torch.zeros(1), spread=torch.ones(1), pull=1.0)
    assert pulled(x).item() == pytest.approx(0, abs=1e-5)
    assert pulled(2 * x).item() == pytest.approx(1, rel=1e-2)
    assert pulled(x + 0.5).item() == pytest.approx(0.25, rel=1e-2)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (8, 8, 8)])
def test_smoothing_divides_a_wave_by_one_plus_its_squared_frequency(shape: tuple[int, ...]) -> None:
    place = torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    wave = torch.cos(2 * math.pi * 3 * place / shape[0]).expand(2, 1, *shape)
    k = 2 * math.pi * 3 / shape[0]
    torch.testing.assert_close(smoothed(wave, 2.0), wave / (1 + 4 * k * k), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(smoothed(torch.ones(1, 1, *shape), 2.0), torch.ones(1, 1, *shape))
    assert smoothed(wave, 0.0) is wave


def test_habits_tell_noise_from_dropping_from_certainty() -> None:
    generator, images = torch.Generator().manual_seed(0), torch.randn(8, 1, 16, 16)

    def habits(send: Any) -> Any:
        track = Track.__new__(Track)
        track._rounds = [[Span(Replica(lambda x: {"z": send(x)}))]]
        return habits_of(track, images)

    certain = habits(lambda x: x)
    assert certain.steady
    assert certain.noise["z"] == 0
    noisy = habits(lambda x: x + torch.randn(x.shape, generator=generator))
    assert not noisy.steady
    assert noisy.pooling == Pooling()
    assert noisy.noise["z"] == pytest.approx(0.5, abs=0.1)
    dropped = habits(lambda x: x * (torch.rand(x.shape, generator=generator) < 0.5))
    assert not dropped.steady
    assert dropped.pooling.masked == {"z"}
    assert dropped.noise["z"] == 0
