"""Who catches whom: SplitGuard and the gradients scrutinizer, with their defaults, against honest and hijacking servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from leakaudit_cut.params_watching import GradientScrutinizerParams, SplitGuardParams
from leakaudit_cut.scrutinizer import GradientScrutinizer
from leakaudit_cut.splitguard import SplitGuard

SEEDS = (0, 1, 2)
HIJACK: dict[str, Any] = {
    "preset": "quick", "pilot_iterations": 60, "decoder_width": 8, "critic_width": 16, "critic_blocks": 1, "critic_steps": 2,
}  # fmt: skip
SERVERS: dict[str, dict[str, Any] | None] = {
    "honest": None, "hijack": HIJACK, "adaptive": HIJACK | {"task_weight": 0.5}, "stealthy": HIJACK | {"task_weight": 0.9},
    "centered": HIJACK,
}  # fmt: skip
WATCHED = {
    "splitguard": (("client", "label-holder"), SplitGuard, SplitGuardParams()),
    "gradient-scrutinizer": (("client",), GradientScrutinizer, GradientScrutinizerParams()),
}


def guards(detector: str) -> Any:
    roles, made, params = WATCHED[detector]
    return lambda seat: made(params, seat) if seat.role in roles else None


def trained(collaboration: Any, detector: str, server: str, seed: int, rounds: int = 60) -> Any:
    """Return the alarm, or None, of one training of 4 batches a round, and the training."""
    training = collaboration(
        guards=guards(detector), hijack=SERVERS[server], seed=seed, rounds=rounds, members=32, side=32,
        protocol={"network": {"channels": [8, 16, 32]}},
    )  # fmt: skip
    return training.run(), training


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let hijackers take what a batch's gradients have in common out of them: who knows the scrutinizer does."""
    module = pytest.importorskip("leakaudit_hijacking.hijacker")

    class Centered(module.Hijack):  # type: ignore[name-defined, misc]
        def step(self, *args: Any) -> dict[str, torch.Tensor]:
            return {name: t - t.mean(dim=0, keepdim=True) for name, t in super().step(*args).items()}

    return lambda: monkeypatch.setattr(module, "Hijack", Centered)


@pytest.fixture
def caught(collaboration: Any, center: Any) -> Any:
    """Give the batches after which trainings with the seeds were stopped; None for one that went to its end."""

    def run(detector: str, server: str, rounds: int = 60) -> list[int | None]:
        if server == "centered":
            center()
        found = [trained(collaboration, detector, server, seed, rounds) for seed in SEEDS]
        return [training.batches if alarm else None for alarm, training in found]

    return run


@pytest.mark.slow
def test_the_scrutinizer_stops_hijackers_and_no_honest_training(caught: Any) -> None:
    assert caught("gradient-scrutinizer", "honest") == [None] * len(SEEDS)
    for server in ("hijack", "adaptive"):
        # 20 batches of warm-up and a window of 10: nobody can be caught before the thirtieth.
        assert all(batches is not None and 30 <= batches <= 60 for batches in caught("gradient-scrutinizer", server)), server


@pytest.mark.slow
def test_the_scrutinizer_is_blind_to_gradients_without_a_common_part(caught: Any) -> None:
    """What README says it does not catch; should this fail, README is wrong."""
    assert caught("gradient-scrutinizer", "centered", rounds=20) == [None] * len(SEEDS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_splitguard_catches_the_published_hijacker_but_later(caught: Any) -> None:
    """Its false alarms on these phantoms (README) are measured, not asserted: none would be better."""
    late, early = caught("splitguard", "hijack"), caught("gradient-scrutinizer", "hijack")
    assert any(batches is not None for batches in late)
    for slow, fast in zip(late, early, strict=True):
        assert fast is not None
        assert slow is None or fast < slow
