"""The phantom is accepted only where its figures lie in the ranges measured on real glioma cases."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from leakaudit.cohorts import MODALITIES, Cohort, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams, decode

KEYS = [f"phantom-{i:04d}" for i in range(50)]

# Ratio of the label's mean to that of the rest of the brain, from five glioma cases, in the order of MODALITIES.
MEASURED = {
    "ED": (2, [(1.35, 2.22), (0.94, 1.14), (0.77, 1.11), (1.11, 1.72)]),
    "ET": (3, [(1.40, 2.45), (0.83, 1.18), (1.30, 2.36), (1.14, 1.84)]),
    "NCR": (1, [(1.39, 2.76), (0.83, 1.13), (0.75, 1.19), (1.28, 2.30)]),
}


@pytest.fixture(scope="module")
def scans() -> list[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    phantom = Phantom(PhantomParams(), seed=0)
    return [(images[0], labels[0]) for images, labels in (phantom.raw(key) for key in KEYS)]


@pytest.fixture(scope="module")
def visits() -> tuple[Cohort, Cohort]:
    phantom = Phantom(PhantomParams(), seed=0)
    return phantom.load(KEYS), phantom.load(KEYS, visits=(1,))


@pytest.mark.parametrize("name", MEASURED)
def test_contrast_ratios_are_in_the_measured_ranges(name: str, scans: list[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> None:
    label, ranges = MEASURED[name]
    ratios = []
    for images, labels in scans:
        here, brain = labels == label, images.sum(axis=0) > 0
        if here.sum() >= 8:
            ratios.append(images[:, here].mean(axis=1) / images[:, brain & ~here].mean(axis=1))
    assert len(ratios) >= 25
    for modality, value, (low, high) in zip(MODALITIES, np.mean(ratios, axis=0), ranges, strict=True):
        assert low <= value <= high, f"{name} on {modality}: {value:.2f} is outside {low} to {high}"


def test_variation_within_the_brain(scans: list[tuple[NDArray[np.float32], NDArray[np.uint8]]]) -> None:
    inside = [images[:, images.sum(axis=0) > 0] for images, _ in scans]
    variation = np.mean([x.std(axis=1) / x.mean(axis=1) for x in inside], axis=0)
    assert np.all((variation > 0.2) & (variation < 0.6)), variation


def _similarity(first: Cohort, second: Cohort, channel: int) -> NDArray[np.float64]:
    """Return the masked normalized cross-correlation of every image of one cohort with every image of the other."""
    result = np.empty((len(first), len(second)))
    for i, j in np.ndindex(result.shape):
        both = first.brain[i] & second.brain[j]
        result[i, j] = np.corrcoef(first.images[i, channel][both], second.images[j, channel][both])[0, 1]
    return result


def test_people_are_alike_and_distinct(visits: tuple[Cohort, Cohort]) -> None:
    similarity = _similarity(*visits, MODALITIES.index("t1"))
    same, other = np.diag(similarity), similarity[~np.eye(len(KEYS), dtype=bool)]
    low, high = np.quantile(other, [0.025, 0.975])
    assert low > -0.1
    assert high < 0.5
    assert 0.05 < other.mean() < 0.4
    assert same.mean() > other.mean() + 0.25
    assert same.mean() < 0.95
    assert (similarity.argmax(axis=1) == np.arange(len(KEYS))).mean() > 0.8


def test_canary_decodes_from_the_person_and_from_nobody_else() -> None:
    keys = KEYS[:16]
    cohort = Phantom(PhantomParams(canary=True), seed=0).load(keys, visits=(0, 1))
    own, other = [], []
    for i, sample in enumerate(cohort.samples):
        truth, dots = cohort.canaries[sample.patient], cohort.dots[sample.patient, sample.visit, sample.position]
        own.append(decode(cohort.images[i, 3], dots)[0] == truth)
        strangers = [cohort.images[(i + step) % len(cohort), 3] for step in (2, 6, 10)]
        other += [decode(image, dots)[0] == truth for image in strangers]
    assert np.mean(own) >= 0.99
    assert 0.45 < np.mean(other) < 0.55
    assert 0.4 < np.mean(list(cohort.canaries.values())) < 0.6


def test_rendering_is_fast() -> None:
    phantom = Phantom(PhantomParams(), seed=3)
    start = time.process_time()
    phantom.load(KEYS[:40])
    # Five seconds for 200 patients on one core, with room for a slower or busier one.
    assert time.process_time() - start < 3.0


@pytest.mark.slow
def test_a_small_network_learns_most_but_not_all() -> None:
    torch = pytest.importorskip("torch")
    from monai.networks.nets import BasicUNet

    torch.manual_seed(0)
    phantom = Phantom(PhantomParams(slices=3), seed=0)
    keys = [entry.patient for entry in phantom.inventory().patients]
    train, test = phantom.load(keys[:80]), phantom.load(keys[100:140])
    x, y = torch.tensor(train.images), torch.tensor(regions(train.labels))
    net = BasicUNet(2, 4, 3, features=(16, 16, 32, 64, 64, 16), norm=("instance", {"affine": True}))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(15):
        for batch in torch.randperm(len(x)).split(8):
            logits, truth = net(x[batch]), y[batch]
            soft = torch.sigmoid(logits)
            overlap = (2 * (soft * truth).sum((2, 3)) + 1) / ((soft + truth).sum((2, 3)) + 1)
            loss = 1 - overlap.mean() + torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        found = (net.eval()(torch.tensor(test.images)) > 0).numpy()
    truth = regions(test.labels) > 0
    patients = np.array([sample.patient for sample in test.samples])
    dice = np.full((len(test.patients), 3), np.nan)
    for row, patient in enumerate(test.patients):
        a, b = found[patients == patient], truth[patients == patient]
        size = b.sum(axis=(0, 2, 3))
        both = 2 * (a & b).sum(axis=(0, 2, 3)) / np.maximum(a.sum(axis=(0, 2, 3)) + size, 1)
        dice[row] = np.where(size > 0, both, np.nan)
    assert 0.75 < np.nanmean(dice, axis=0).mean() < 0.93, np.nanmean(dice, axis=0)
