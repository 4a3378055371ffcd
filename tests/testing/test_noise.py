"""The kit plays a claimed DP-SGD and finds what its epsilon does not say."""

from __future__ import annotations

import math

import pytest
from installed_plugins import Site
from private import PRIVATE

from leakaudit.scoring.families import gdp_delta
from leakaudit.testing import ConformanceError, checks
from leakaudit.testing.defense_noise import _epsilon_of

pytest.importorskip("leakaudit_dp", reason="its accountant and per-sample gradients are used")

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture
def private(site: Site) -> Site:
    site.install("leakaudit-private", PRIVATE)
    return site


def named(fault: str) -> dict[str, object]:
    return {c.name: c for c in checks("defense", "private", examples=[{"fault": fault}])}


def test_a_sound_dp_sgd_passes(private: Site) -> None:
    found = named("")
    assert found["noise"]().status == "passed"
    assert found["sampling"]().status == "passed"
    assert found["guarantee"]().status == "passed"


FAULTS = [
    ("noiseless", "noise", r"no noise is added to it.*every weight"),
    ("bare", "noise", r"gave 'encoders\.0\..*' the same step"),
    ("late", "noise", r"weaker when the gradient of one patient is large.*clip the gradient of each unit first"),
    ("rows", "noise", r"one patient moves a step by (1\.\d|2)\d* standard deviations"),
    ("weak", "noise", r"one patient moves a step by 2"),
    ("restart", "noise", r"3 such steps cost epsilon .*count every step of every round"),
    ("shuffle", "sampling", r"its accountant assumes 'Poisson over patients', but its batches are drawn by shuffle"),
    ("unsaid", "sampling", r"every record takes part, it claims epsilon .*; taking part once costs"),
]


@pytest.mark.parametrize(("fault", "broken", "says"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_false_claim_is_caught(private: Site, fault: str, broken: str, says: str) -> None:
    found = named(fault)
    with pytest.raises(ConformanceError, match=rf"(?s){broken}: .*{says}"):
        found[broken]()
    assert found["guarantee"]().status == "passed"  # the claim has its form, and is false


def test_what_draws_other_numbers_for_a_neighbor_cannot_be_played(private: Site) -> None:
    assert named("stray")["noise"]().status == "not-tried"


def test_the_curve_of_a_gaussian_mechanism_is_that_of_the_references() -> None:
    assert gdp_delta(1.0, 1.0) == pytest.approx(0.12693674, abs=1e-7)  # Phi(-1/2) - e Phi(-3/2)
    for mu in (0.1, 1.0, 20.0):
        for delta in (1e-2, 1e-6):
            epsilon = _epsilon_of(mu, delta)
            assert epsilon == 0 or gdp_delta(epsilon, mu) == pytest.approx(delta, rel=1e-6)
    assert _epsilon_of(0.001, 0.1) == 0
    assert _epsilon_of(1e9, 1e-5) == math.inf
