"""Against the MNIST example of Opacus (Yousefpour et al. 2021): DP-SGD step for step, and what its noise costs.

MNIST must be downloaded; in its place stand digits that Pillow's font draws. Network, batch (240), clip norm (1.5), learning rate
(.25) and number of epochs (15) are the published ones, of 4,800 images in place of 60,000.
`pytest -m slow -s plugins/leakaudit-dp/tests/test_published.py` prints the figures of docs/validation.md.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import opacus
import pytest
import torch
import torch.nn.functional as F
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.params import DpSgdParams
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from leakaudit.defenses import Chain
from leakaudit.facts import SeatFacts
from leakaudit.models.params import TrainingParams
from leakaudit.protocols import Holdings, Learner, Sampling
from leakaudit.protocols.schedule import Sampler
from leakaudit.wire import Seat, Secret

BATCH, CLIP, RATE, EPOCHS, DELTA = 240, 1.5, 0.25, 15, 1e-5
PLAIN_RATE = 0.1
"""Learning rate without a defense: steps of .25 are for clipped gradients, and whole ones diverge with them."""
IMAGES, FEW, UNSEEN = 4800, 1200, 1000
NEXT_TO_NOTHING = 1e-3
"""Noise of a run that clips and does no more; the defense refuses 0, of which there is no epsilon."""


def drawn(number: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw a digit, 28 x 28: at twice the size, slanted, turned, moved and bent, shrunk."""
    big = Image.new("L", (56, 56))
    font = ImageFont.load_default(rng.uniform(42, 52))
    ImageDraw.Draw(big).text((28, 28), str(number), fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 2)))
    turn, slant = rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.3)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + slant, np.cos(turn)]])
    grid = np.stack(np.mgrid[:56, :56]).reshape(2, -1) - 27.5
    bend = np.stack([ndimage.zoom(rng.standard_normal((5, 5)), 56 / 5, order=1) for _ in range(2)]).reshape(2, -1)
    places = matrix @ grid + 27.5 + rng.uniform(-2, 2, (2, 1)) + 1.5 * bend
    return ndimage.map_coordinates(np.asarray(big) / 255, places, order=1).reshape(28, 2, 28, 2).mean(axis=(1, 3))


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return images, of MNIST's mean 0 and deviation 1, and labels: those to learn from, and then the unseen ones."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.stack([drawn(i % 10, rng) for i in range(IMAGES + UNSEEN)]).astype(np.float32))[:, None]
    return (x - x.mean()) / x.std(), torch.arange(len(x)) % 10


def network() -> nn.Module:
    """Return the network of the example, with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
            nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(32 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip


def seat() -> Seat:
    return Seat(SeatFacts(id="trainer", role="trainer"), Secret.from_seed(0))


@cache
def by_leakaudit(noise: float | None, images: int) -> tuple[dict[str, Tensor], float | None]:
    """Return weights and epsilon as a party of the core trains under `dp-sgd`; without a defense if the noise is None."""
    (x, y), place = digits(), seat()
    guard = Chain([], place) if noise is None else DpSgd(DpSgdParams(noise_multiplier=noise, clip=CLIP, unit="record"), place)
    sampling = Sampling(kind="poisson", unit="record")
    sampler = Sampler(range(images), BATCH, sampling, torch.Generator().manual_seed(0))
    holds = Holdings(tokens=tuple(map(str, range(images))), units=torch.arange(images), images=x[:images], sampling=sampling)
    learner = Learner(
        network(), place, guard, TrainingParams(optimizer="sgd", learning_rate=PLAIN_RATE if noise is None else RATE, momentum=0.0),
        expected_units=sampler.expected_units, expected_batch=float(BATCH), rate=sampler.rate, unit="record", holds=holds,
        steps=EPOCHS * sampler.steps,
    )  # fmt: skip
    for _ in range(EPOCHS):
        for rows in sampler.epoch():
            learner.fit(lambda net, rows=rows: F.cross_entropy(net(x[rows]), y[rows]), torch.tensor(rows))
    claim = guard.guarantee() if isinstance(guard, DpSgd) else None
    return learner.state(), None if claim is None else claim.epsilon


def by_opacus(noise: float, images: int) -> tuple[dict[str, Tensor], float]:
    """Return weights and epsilon as `PrivacyEngine` gives them, from the same streams of batches and of noise."""
    x, y = digits()
    module, engine = network(), opacus.PrivacyEngine(accountant="rdp")
    data = DataLoader(TensorDataset(x[:images], y[:images]), batch_size=BATCH, generator=torch.Generator().manual_seed(0))
    private, optimizer, loader = engine.make_private(
        module=module, optimizer=torch.optim.SGD(module.parameters(), lr=RATE), data_loader=data, noise_multiplier=noise,
        max_grad_norm=CLIP, noise_generator=seat().rng("dp-noise"),
    )  # fmt: skip
    for _ in range(EPOCHS):
        # The loader itself would draw a seed for its workers from the same stream at every epoch.
        for rows in loader.batch_sampler:
            optimizer.zero_grad()
            F.cross_entropy(private(x[rows]), y[rows]).backward()
            optimizer.step()
    return module.state_dict(), engine.get_epsilon(DELTA)


def accuracy(state: dict[str, Tensor]) -> float:
    """Return the share of unseen digits that a network gets right."""
    x, y = digits()
    module = network()
    module.load_state_dict(state)
    with torch.no_grad():
        return float((module(x[IMAGES:]).argmax(dim=1) == y[IMAGES:]).float().mean())


@cache
def learned(noise: float | None, images: int) -> float:
    state, epsilon = by_leakaudit(noise, images)
    right = accuracy(state)
    cost = "" if epsilon is None else f", epsilon {epsilon:.4g}"
    print(f"\n{images} images, noise {noise}: {right:.1%} of {UNSEEN} unseen digits right{cost}", end="", flush=True)
    return right


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("noise", [0.7, 1.3])
def test_weights_and_epsilon_are_those_of_opacus(noise: float) -> None:
    ours, epsilon = by_leakaudit(noise, FEW)
    theirs, published = by_opacus(noise, FEW)
    far = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    start = network().state_dict()
    moved = max(float((theirs[name] - start[name]).abs().max()) for name in theirs)
    print(
        f"\nnoise {noise}, {EPOCHS * FEW // BATCH} steps: weights differ by at most {far:.1e} (moved by up to {moved:.2f}), "
        f"accuracy {accuracy(ours):.1%} / {accuracy(theirs):.1%}, epsilon {epsilon:.4f} / {published:.4f}",
        end="",
    )
    assert moved > 0.1
    assert far < 1e-4
    assert accuracy(ours) == pytest.approx(accuracy(theirs), abs=0.002)
    assert epsilon == pytest.approx(published, rel=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_noise_costs_little_up_to_the_published_one_and_more_beyond() -> None:
    # Published, of 60,000 images: 97.09 % at .7 (45 epochs), 94.63 % at 1.3, 98.94 % without.
    clipped, published = learned(NEXT_TO_NOTHING, IMAGES), learned(1.3, IMAGES)
    assert learned(0.7, IMAGES) == pytest.approx(clipped, abs=0.03)
    assert published == pytest.approx(clipped, abs=0.03)
    assert learned(4.0, IMAGES) < published - 0.025
    assert learned(4.0, IMAGES) > 0.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_more_images_the_less_dp_sgd_costs() -> None:
    cost = {images: learned(None, images) - learned(1.3, images) for images in (FEW, IMAGES)}
    assert learned(None, FEW) > 0.85
    assert cost[FEW] > cost[IMAGES] + 0.03 > 0.05
