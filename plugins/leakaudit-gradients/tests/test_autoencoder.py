"""The autoencoder prior: what it charges for, that it disturbs nothing, and that the search obeys it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_gradients import autoencoder, starts
from leakaudit_gradients.attack import GradientMatching
from leakaudit_gradients.autoencoder import Residual, residual_of
from leakaudit_gradients.method import Method
from leakaudit_gradients.params import GradientMatchingParams
from leakaudit_gradients.priors import penalty
from leakaudit_gradients.starts import Known
from torch import Tensor
from torch.func import vmap

from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.facts import SeatFacts
from leakaudit.wire import Seat, Secret


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(x: Tensor, spread: float) -> Tensor:
    return x + spread * torch.randn(x.shape, generator=seeded(1))


def blurred(x: Tensor) -> Tensor:
    """Average each voxel with its neighbors twice: no Gaussian, hence not what the autoencoder was trained on."""
    for _ in range(2):
        x = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=True)
    return x


@pytest.fixture(name="phantoms", scope="module")
def _phantoms() -> tuple[Tensor, Tensor]:
    """60 auxiliary images, and 8 of other patients."""
    source = Phantom(PhantomParams(patients=68, size=16), 0)
    images = torch.from_numpy(source.load([entry.patient for entry in source.inventory().patients]).images.copy())
    return images[8:], images[:8]


@pytest.fixture(name="trained", scope="module")
def _trained(phantoms: tuple[Tensor, Tensor]) -> Residual:
    return residual_of(phantoms[0], seeded())


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train hardly at all, where it does not matter how well."""
    monkeypatch.setattr(autoencoder, "_STEPS", 10)


def test_images_of_other_patients_cost_little_and_what_is_no_image_costs_more(
    phantoms: tuple[Tensor, Tensor], trained: Residual
) -> None:
    own, others = phantoms
    cost = float(trained(others))
    assert cost < 1.3 * float(trained(own)), "it has learned images, not patients"
    assert float(trained(noise(others, 0.3))) > 1.4 * cost
    assert float(trained(noise(others, 1.0))) > 4 * cost
    assert float(trained(blurred(others))) > 3 * cost
    assert float(trained(others.roll(1, dims=1))) > 2 * cost, "modalities exchanged"


def test_trained_on_noise_alone_it_would_like_blurred_images_better(phantoms: tuple[Tensor, Tensor]) -> None:
    own, others = phantoms
    bare = residual_of(own, seeded(), flattened=0.0)
    assert float(bare(noise(others, 0.3))) > 1.4 * float(bare(others))
    assert float(bare(blurred(others))) < float(bare(others))


def test_it_brings_back_what_noise_and_blur_took(phantoms: tuple[Tensor, Tensor], trained: Residual) -> None:
    others = phantoms[1]
    for lost in (noise(others, 0.5), blurred(others)):
        assert float((trained.autoencoder(lost) - others).square().mean()) < 0.8 * float((lost - others).square().mean())


def test_mapped_over_targets_it_charges_what_it_charges_one_by_one(phantoms: tuple[Tensor, Tensor], trained: Residual) -> None:
    targets = phantoms[1].reshape(4, 2, *phantoms[1].shape[1:]).requires_grad_()
    together, alone = vmap(trained)(targets), torch.stack([trained(x) for x in targets])
    assert torch.allclose(together, alone, rtol=1e-4)
    slopes = [torch.autograd.grad(values.sum(), targets)[0] for values in (together, alone)]
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-3, atol=1e-7)


def test_going_down_its_slope_makes_images_cheaper(phantoms: tuple[Tensor, Tensor], trained: Residual) -> None:
    x = noise(phantoms[1], 0.5)
    start = float(trained(x))
    for _ in range(20):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(trained(x), x)
        x = x - 0.1 * x.numel() * slope
    assert float(trained(x.detach())) < 0.5 * start
    assert all(not p.requires_grad for p in trained.autoencoder.parameters())


@pytest.mark.usefixtures("quick")
def test_equal_seeds_give_equal_priors_whatever_surrounds_the_training(phantoms: tuple[Tensor, Tensor]) -> None:
    own, others = phantoms
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, other = residual_of(own, seeded())(others), residual_of(own, seeded(1))(others)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        again = residual_of(own, seeded())
    assert float(again(others)) == float(first)
    assert float(other) != float(first)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (5, 4, 19, 22), (3, 2, 8, 9, 10)], ids=["one image", "odd", "volumes"])
def test_slices_and_volumes_of_any_size_are_taken(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, generator=seeded())
    prior = residual_of(images, seeded())
    assert prior.autoencoder(images).shape == images.shape
    assert float(vmap(prior)(images[None])) == pytest.approx(float(prior(images)), rel=1e-4)


@pytest.mark.usefixtures("quick")
def test_a_modality_without_contrast_does_no_harm() -> None:
    images = torch.randn(4, 2, 16, 16, generator=seeded())
    images[:, 1] = 0
    assert float(residual_of(images, seeded())(images)) < 10


def test_volumes_are_told_from_noise(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "_STEPS", 150)
    images, _ = tools.tensors(tools.brains(24, dims=3, side=8))
    prior = residual_of(images[4:], seeded())
    assert float(prior(noise(images[:4], 1.0))) > 2 * float(prior(images[:4]))


@pytest.mark.usefixtures("quick")
def test_priors_are_weighed_and_only_learned_where_they_weigh_something(
    tools: Any, phantoms: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known.of(tools.brains(6), noise=False, device=torch.device("cpu"))
    both = known.priors(Method(pca=0.5, autoencoder=2.0), seeded())
    x = tools.tensors(tools.brains(2, seed=1))[0]
    expected = 0.5 * both["pca"](x) + 2.0 * both["autoencoder"](x)
    assert float(penalty(x, Method(pca=0.5, autoencoder=2.0), both)) == pytest.approx(float(expected))
    assert float(penalty(x, Method(), both)) == 0
    monkeypatch.setattr(starts, "residual_of", pytest.fail)
    assert list(known.priors(Method(pca=0.5), seeded())) == ["pca"]
    assert not known.priors(Method(), seeded())
    assert not replace(known, images=None).priors(Method(pca=0.5, autoencoder=2.0), seeded())


def run(made: Any, **params: Any) -> Tensor:
    (images, *_) = GradientMatching(GradientMatchingParams(**params), adversary()).run(made.view())
    return torch.from_numpy(np.asarray(images.array))


def adversary() -> Seat:
    return Seat(SeatFacts(id="adversary", role="adversary"), Secret.from_seed(5))


def test_the_search_obeys_the_prior(world: Any) -> None:
    made = world()
    own = torch.from_numpy(made.view().auxiliary.images.copy())
    prior = residual_of(own, adversary().rng("autoencoder"))
    none, little, much = (run(made, iterations=15, start="noise", autoencoder=weight) for weight in (0.0, 0.1, 30.0))
    assert torch.equal(none, run(made, iterations=15, start="noise"))
    assert not torch.equal(none, little)
    assert float(prior(much)) < 0.5 * float(prior(none))


@pytest.mark.usefixtures("quick")
def test_one_autoencoder_serves_all_sites(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(images: Tensor, generator: torch.Generator) -> Residual:
        calls.append(len(images))
        return residual_of(images, generator)

    monkeypatch.setattr(starts, "residual_of", counted)
    run(world(counts=(1, 2)), iterations=1, autoencoder=0.1)
    assert calls == [24]


def test_an_adversary_without_patients_searches_without_it(world: Any) -> None:
    made = world(owns="noise")
    assert torch.equal(run(made, iterations=3, auxiliary="noise", autoencoder=1.0), run(made, iterations=3, auxiliary="noise"))


@pytest.mark.usefixtures("quick")
def test_the_benchmark_says_what_each_prior_charges_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    penalties = importlib.import_module("penalties")
    assert penalties.main(["--size", "16", "--patients", "3", "--own", "8", "--seeds", "1"]) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert rows[0][1:] == ["total variation", "span", "autoencoder", "trained on noise alone"]
    found = {row[0]: [float(cell) for cell in row[1:]] for row in rows[2:]}
    assert found["averages of 5x5"][0] < 1 < found["noise 1"][0], "total variation likes what is flat"
    assert found["gray"][0] < 0.1
    assert min(found["noise 1"]) > 1
