"""Faces that ship with scikit-image: both attacks read the victims' faces, and neither does without what makes it work.

Fifty people are trained on and attacked, fifty others are the adversary's; a face counts 24 x 24 pixels on the scale [-1, 1], as
in the published MSE of FSHA. Run with `-m slow -s` to see the figures that VALIDATION.md quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from leakaudit_hijacking.hijack import Hijack
from leakaudit_hijacking.hijacker import Hijacker

from leakaudit.wire import Party, Seat

pytestmark = pytest.mark.slow

FSHA, SDAR, PCAT = "feature-space-hijack", "sdar", "pcat"
Errors = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def errors(face_world: Any, tmp_path_factory: Any) -> Errors:
    """Give the MSE of each level as a share of the mean auxiliary face's, computed once for each setting."""

    @cache
    def find(name: str, seed: int = 0, play: Any = None, **params: Any) -> dict[str, float]:
        folder: Path = tmp_path_factory.mktemp("faces")
        found = face_world(seed).attacked(name, folder, play, **{"preset": "quick", **params})
        shares, how = {}, "" if play is None else play.__name__
        for e in found.images().values():
            error, chance = found.error(e), found.chance(e)
            shares[e.level] = error / chance
            print(f"\n{name} seed {seed} {params} {how} {e.level}: MSE {error:.4f}, mean face {chance:.4f}", end="")
        return shares

    return find


def random_critic(honest: Party, seat: Seat, params: Any) -> Party:
    """A hijacker whose replies are noise of the size of the critic's gradients: nothing leads the client to the pilot."""
    generator = torch.Generator().manual_seed(3)

    class Lost(Hijack):
        def step(self, private: Any, draw: Any) -> Any:
            found = super().step(private, draw)
            noise = {k: torch.randn(t.shape, generator=generator) for k, t in found.items()}
            return {k: noise[k] * t.norm() / noise[k].norm() for k, t in found.items()}

    class LostHijacker(Hijacker):
        def _hijack(self, client: str, sent: Any, draw: Any) -> Hijack:
            made = super()._hijack(client, sent, draw)
            made.__class__ = Lost
            return made

    return LostHijacker(honest, seat, params)


@pytest.mark.parametrize("seed", [0, 1])
def test_feature_space_hijacking_reads_the_faces(errors: Errors, seed: int) -> None:
    found = errors(FSHA, seed)
    assert found["level0"] < 0.45
    assert found["level1"] < 0.65


def test_without_a_critic_to_follow_the_hijack_reads_nothing(errors: Errors) -> None:
    assert min(errors(FSHA, task_weight=1).values()) > 0.9
    assert min(errors(FSHA, play=random_critic).values()) > 0.9


def test_an_adaptive_hijack_reads_less_than_a_whole_one_and_more_than_none(errors: Errors) -> None:
    assert errors(FSHA)["level0"] < errors(FSHA, task_weight=0.3)["level0"] < errors(FSHA, task_weight=1)["level0"]


@pytest.mark.parametrize("seed", [0, 1])
def test_passive_simulation_reads_the_faces_and_its_discriminators_help(errors: Errors, seed: int) -> None:
    sdar, pcat = errors(SDAR, seed), errors(PCAT, seed)
    assert sdar["level0"] < 0.55
    assert sdar["level1"] < 0.75
    assert sdar["level0"] < pcat["level0"]
    assert sdar["level1"] < pcat["level1"]


def test_without_trained_simulators_there_is_nothing_to_decode(errors: Errors) -> None:
    assert min(errors(PCAT, simulator_rate=1e-12).values()) > 0.9
