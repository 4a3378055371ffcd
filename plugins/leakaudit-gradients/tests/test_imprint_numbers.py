"""The numerics of the imprint module on plain functions, and the altered task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_gradients.imprint import Found, Plausible, cuts, invert
from leakaudit_gradients.imprint_task import Imprint, ImprintTask, Plan, pattern, query_vector
from scipy import ndimage

from leakaudit.errors import UserError
from leakaudit.models import TaskSpec, load_task

SHAPE = (1, 32, 32)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Random smooth images with values from 0 to 1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((count, *SHAPE)), (0, 0, 2, 2))
    low, high = noise.min(axis=(1, 2, 3), keepdims=True), noise.max(axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(((noise - low) / (high - low)).astype(np.float32))


def psnr(guess: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10((guess.double() - truth.double()).square().mean()))


def plan_for(images: torch.Tensor, bins: int, fit: Any = "gaussian", query: Any = "random") -> Plan:
    h = query_vector(SHAPE, query, 7)
    values = (images.flatten(1).double() @ h).numpy()
    spread = float(values.std())
    return Plan(
        shape=SHAPE, query=query, seed=7, cuts=cuts(values, bins, fit, math.sqrt(len(h))), scale=1 / spread, gain=0.1,
        divisor=spread,
    )  # fmt: skip


def behind(plan: Plan) -> tuple[Imprint, torch.nn.Module]:
    """An imprint module and a network that every voxel matters to."""
    torch.manual_seed(0)
    return Imprint(plan), torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.GELU(), torch.nn.Flatten())


def gradient(module: Imprint, network: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    out = network(module(x))
    out.square().mean().backward()
    weight, bias = module.linear.weight.grad, module.linear.bias.grad
    assert weight is not None
    assert bias is not None
    found = weight.clone(), bias.clone()
    module.zero_grad()
    return found


def bins_of(module: Imprint, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (module.linear(x.flatten(1) / module.divisor) > 0).sum(dim=1) - 1


def alone(places: torch.Tensor) -> torch.Tensor:
    return (places[:, None] == places[None]).sum(dim=1) == 1


@pytest.mark.parametrize(("fit", "query"), [("gaussian", "random"), ("laplace", "random"), ("empirical", "mean")])
def test_images_alone_in_their_bins_come_out_exactly(fit: Any, query: Any) -> None:
    """The reference of the literature: 64 images and 128 bins."""
    x, own = smooth(64, 0), smooth(400, 1)
    module, network = behind(plan_for(own, 128, fit, query))
    state = module.linear.weight.detach(), module.linear.bias.detach()
    found = invert(gradient(module, network, x), state, module.divisor, SHAPE)
    places = bins_of(module, x)
    single = alone(places)
    quality = [psnr(found.images[p], image) for p, image in zip(places[single], x[single], strict=True)]
    print(f"{fit} {query}: {int(single.sum())} of 64 alone, mean {np.mean(quality):.1f} dB, least {min(quality):.1f} dB")
    assert int(single.sum()) >= 24
    assert np.mean(quality) > 60
    assert min(quality) > 40
    assert bool(found.inside[places[single]].all())


def test_bins_with_several_images_or_none_fall_back() -> None:
    x, own = smooth(6, 0), smooth(400, 1)
    h = query_vector(SHAPE, "random", 7)
    x[1] = x[0].flip(2)
    # Two in one bin: the second image is shifted until it asks the query the same.
    gap = ((x[0] - x[1]).flatten().double() @ h) / (h @ h)
    x[1] += (gap * h).reshape(SHAPE).float()
    module, network = behind(plan_for(own, 64))
    state = module.linear.weight.detach(), module.linear.bias.detach()
    found = invert(gradient(module, network, x), state, module.divisor, SHAPE)
    places = bins_of(module, x)
    single = alone(places)
    assert not single[:2].any()
    assert int(single.sum()) >= 2
    instead = own.mean(dim=0)
    mixture = found.images[places[0]]
    images = found.best(6, Plausible.of(own), instead)
    assert images.shape == (6, *SHAPE)
    found_ones = [max(psnr(i, image) for i in images) > 50 for image in x]
    assert found_ones == single.tolist()
    rest = [i for i in images if max(psnr(i, image) for image in x[single]) < 50]
    assert len(rest) == 6 - int(single.sum())
    assert all(torch.equal(i, instead.double()) or torch.equal(i, mixture) for i in rest)
    assert torch.equal(images[-1], instead.double())


def test_an_empty_bin_has_no_image() -> None:
    x, own = smooth(1, 0), smooth(400, 1)
    module, network = behind(plan_for(own, 16))
    state = module.linear.weight.detach(), module.linear.bias.detach()
    found = invert(gradient(module, network, x), state, module.divisor, SHAPE)
    (place,) = bins_of(module, x).tolist()
    images = found.best(3, Plausible.of(own), own.mean(dim=0))
    assert psnr(images[0], x[0]) > 60
    assert torch.equal(images[1], own.mean(dim=0).double())
    assert torch.equal(images[1], images[2])
    assert int(torch.argmax(found.strength)) == place


def test_the_sum_over_sites_gives_the_images_of_all() -> None:
    x, own = smooth(8, 3), smooth(400, 1)
    module, network = behind(plan_for(own, 128))
    state = module.linear.weight.detach(), module.linear.bias.detach()
    first, second = gradient(module, network, x[:5]), gradient(module, network, x[5:])
    total = first[0] * 5 / 8 + second[0] * 3 / 8, first[1] * 5 / 8 + second[1] * 3 / 8
    places = bins_of(module, x)
    single = alone(places)
    assert int(single.sum()) >= 6
    images = invert(total, state, module.divisor, SHAPE).best(8, Plausible.of(own), own.mean(dim=0))
    for image in x[single]:
        assert max(psnr(i, image) for i in images) > 60


def test_cuts_make_bins_equally_likely() -> None:
    values = np.random.default_rng(0).laplace(3.0, 2.0, 20_000)
    for fit, tolerance in (("empirical", 0.001), ("laplace", 0.01), ("gaussian", 0.08)):
        ends = cuts(values, 10, fit, 1.0)  # type: ignore[arg-type]
        assert ends == sorted(ends)
        assert len(ends) == 10
        share = np.histogram(values, [*ends, np.inf])[0] / len(values)
        assert share.sum() == pytest.approx(1)
        assert np.abs(share - 0.1).max() < tolerance


def test_a_query_that_sorts_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="query: random"):
        cuts(np.array([1.0, 1.0, 1.0 + 1e-9]), 8, "gaussian", 30.0)
    with pytest.raises(UserError, match=r"raise data\.auxiliary"):
        cuts(np.array([1.0]), 8, "gaussian", 30.0)


def altered(tools: Any, **changes: Any) -> tuple[Any, ImprintTask]:
    """A tiny task without and with the module."""
    honest = tools.task(**changes)
    params = {
        "network": honest.network.key(), "training": honest.training.key(), "dims": 2, "groups": [[0, 1]], "levels": [0, 1],
    }  # fmt: skip
    imprint = {
        "shape": [2, 16, 16], "query": "random", "seed": 3, "cuts": [-100.0, 0.0, 10.0], "scale": 0.01, "gain": 0.1,
        "divisor": 20.0,
    }  # fmt: skip
    loaded = load_task(TaskSpec(target="leakaudit_gradients.imprint_task:ImprintTask", params={**params, "imprint": imprint}))
    assert isinstance(loaded, ImprintTask)
    return honest, loaded


def test_the_altered_task_starts_as_the_honest_one_and_learns(tools: Any) -> None:
    honest, task = altered(tools, learning_rate=0.3)
    torch.manual_seed(1)
    plain = honest.build()
    torch.manual_seed(1)
    network = task.build()
    extra = {"imprint.linear.weight", "imprint.linear.bias"}
    assert set(network.state_dict()) - set(plain.state_dict()) == extra
    assert all(torch.equal(network.state_dict()[k], v) for k, v in plain.state_dict().items())
    x, y = tools.tensors(tools.brains(4))
    with torch.no_grad():
        assert not torch.equal(network(x), plain(x))
        moved = (network.imprint(x) - x).abs().amax()
    assert 0 < moved < 0.5
    before = {k: v.detach() for k, v in network.named_parameters()}
    after = task.local(before, x, y, [torch.arange(4)] * 30)
    assert not torch.equal(after["imprint.linear.weight"], before["imprint.linear.weight"])

    def loss(values: Any) -> float:
        return float(task.loss(torch.func.functional_call(network, values, (x,)), y).mean())

    assert loss(after) < loss(before) - 0.05


def test_the_local_run_of_the_task_is_that_of_an_optimizer(tools: Any) -> None:
    _, task = altered(tools, learning_rate=0.1)
    torch.manual_seed(1)
    network = task.build()
    x, y = tools.tensors(tools.brains(3))
    before = {k: v.detach().clone() for k, v in network.named_parameters()}
    after = task.local(before, x, y, [torch.arange(3)])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    task.loss(network(x), y).mean().backward()
    optimizer.step()
    assert all(torch.allclose(after[k], v, atol=1e-7) for k, v in network.named_parameters())


def test_the_pattern_survives_normalization() -> None:
    signs = pattern((2, 16, 16), 0)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.2


def test_an_image_found_in_two_bins_takes_one_place() -> None:
    own = smooth(40, 1)
    images = torch.stack([own[0], own[1], 1.01 * own[0]]).double()
    found = Found(images=images, strength=torch.tensor([3.0, 1.0, 2.0]), inside=torch.ones(3, dtype=torch.bool))
    best = found.best(3, Plausible.of(own), own.mean(dim=0))
    assert torch.equal(best, torch.stack([own[0], own[1], own.mean(dim=0)]).double())


def test_what_lies_outside_of_its_bin_is_no_image_unless_bins_moved() -> None:
    x, own = smooth(1, 0), smooth(400, 1)
    module, network = behind(plan_for(own, 128))
    change = gradient(module, network, x)
    # Bins that moved by a tenth of the query's spread since the gradient was taken.
    state = module.linear.weight.detach(), module.linear.bias.detach() - 0.1
    (place,) = bins_of(module, x).tolist()
    assert not invert(change, state, module.divisor, SHAPE).inside[place]
    assert invert(change, state, module.divisor, SHAPE, slack=0.5).inside[place]


def test_rounding_of_weights_moves_no_weak_image_out_of_its_bin() -> None:
    """An update so small that its last digits blur the image: it still counts as being in its bin, by what rounding can do."""
    own = smooth(40, 1)
    module, _ = behind(plan_for(own, 128))
    state = module.linear.weight.detach(), module.linear.bias.detach()
    x = smooth(40, 2).flatten(1) / module.divisor
    places, weak = bins_of(module, smooth(40, 2)), 1e-6
    seen, trusting = [], []
    for image, place in zip(x, places.tolist(), strict=True):
        active = (torch.arange(128) <= place).float()
        after = state[0] + weak * active[:, None] * image, state[1] + weak * active
        change = after[0] - state[0], after[1] - state[1]
        seen.append(bool(invert(change, state, module.divisor, SHAPE, unit=1.0).inside[place]))
        trusting.append(bool(invert(change, state, module.divisor, SHAPE).inside[place]))
    assert all(seen)
    assert not all(trusting)
