"""The riding party: training stays bit-identical, and the simulation is what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from leakaudit_hijacking.rider import Rider

from leakaudit.attacks import Masks
from leakaudit.wire import Party, Seat

TINY: dict[str, Any] = {"preset": "quick", "decoder_width": 4, "discriminator_width": 4, "discriminator_blocks": 0}


class Listening(Rider):
    """A rider that tells the logits, masks and losses of its simulators."""

    def __init__(self, honest: Party, seat: Seat, params: Any, hear: Callable[..., None]) -> None:
        super().__init__(honest, seat, params)
        self._hear = hear

    def _prepared(self, private: Any) -> Any:
        made = super()._prepared(private)
        loss = made.loss

        def heard(logits: Any, y: Any) -> Any:
            found = loss(logits, y)
            self._hear(logits, y, found)
            return found

        made.loss = heard
        return made


@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
@pytest.mark.parametrize("name", ["sdar", "pcat"])
def test_the_rider_leaves_the_training_bit_identical(small: Any, tmp_path: Path, labels: str, name: str) -> None:
    world = small(labels=labels)
    found = world.attacked(name, tmp_path, steps=2, **TINY)
    assert found.trained.digest() == world.honest().digest()
    assert list(found.images()) == ["client-0/level0", "client-0/level1", "client-1/level0", "client-1/level1"]


def test_sdar_without_its_weights_is_pcat(small: Any, tmp_path: Path) -> None:
    sdar = small().attacked("sdar", tmp_path / "sdar", feature_weight=0, image_weight=0, **TINY).images()
    pcat = small().attacked("pcat", tmp_path / "pcat", **TINY).images()
    whole = small().attacked("sdar", tmp_path / "whole", **TINY).images()
    for name, e in pcat.items():
        np.testing.assert_array_equal(sdar[name].images, e.images)
        assert not np.array_equal(whole[name].images, e.images)


def test_each_discriminator_alone_changes_the_simulation(small: Any, tmp_path: Path) -> None:
    base = {"feature_weight": 0.0, "image_weight": 0.0}
    runs = {"none": base, "features": base | {"feature_weight": 0.1}, "images": base | {"image_weight": 0.1}}
    found = {k: small().attacked("sdar", tmp_path / k, **p, **TINY).images()["client-0/level0"].images for k, p in runs.items()}
    assert not np.array_equal(found["none"], found["features"])
    assert not np.array_equal(found["none"], found["images"])


@pytest.mark.parametrize(
    ("labels", "condition", "channels"),
    [("server", "auto", 3), ("server", "none", 0), ("sent", "auto", 3), ("sent", "none", 0), ("u-shaped", "auto", 0)],
)
def test_decoders_see_a_mask_where_the_server_has_one(
    small: Any, tmp_path: Path, labels: str, condition: str, channels: int
) -> None:
    found = small(labels=labels).attacked("pcat", tmp_path, condition=condition, **TINY)
    assert found.view.own["client-0/level0/stem.weight"].shape[1] == 4 + channels
    assert found.images()


def test_sent_masks_are_what_the_private_samples_are_conditioned_on(small: Any, tmp_path: Path) -> None:
    seen: list[Any] = []

    def play(honest: Party, seat: Seat, chosen: Any) -> Party:
        rider = Rider(honest, seat, chosen)
        learn = rider._learn

        def spy(private: Any, labels: Any) -> None:
            learn(private, labels)
            seen.append((labels, rider._simulation.private_condition(private, labels)))

        rider._learn = spy  # type: ignore[method-assign]
        return rider

    small(labels="sent").attacked("sdar", tmp_path, play=play, **TINY)
    assert seen
    assert all(labels is not None and torch.equal(labels, used) for labels, used in seen)


def test_a_u_shaped_split_gives_the_masks_that_the_simulated_head_sees(small: Any, tmp_path: Path) -> None:
    evidence = small(labels="u-shaped").attacked("sdar", tmp_path, **TINY).evidence()
    (masks,) = [e for e in evidence if isinstance(e, Masks)]
    assert masks.masks.shape == (6, 3, 16, 16)
    assert 0 <= masks.masks.min() < masks.masks.max() <= 1
    assert not [e for e in small().attacked("sdar", tmp_path / "v", **TINY).evidence() if isinstance(e, Masks)]


def test_one_attacked_client_is_decoded_but_all_are_simulated(small: Any, tmp_path: Path) -> None:
    found = small().attacked("sdar", tmp_path, clients=["client-1"], levels=["level1"], **TINY)
    assert list(found.images()) == ["client-1/level1"]
    assert list(found.party._simulation.simulators) == ["client-0", "client-1"]


def test_simulators_learn_the_task_through_the_servers_current_network(small: Any, tmp_path: Path) -> None:
    world = small(rounds=12)
    losses: dict[float, list[float]] = {1e-2: [], 1e-12: []}

    def play(honest: Party, seat: Seat, chosen: Any) -> Party:
        heard = losses[chosen.simulator_rate]
        return Listening(honest, seat, chosen, lambda logits, y, loss: heard.append(float(loss.detach().mean())))

    for rate in losses:
        found = world.attacked("pcat", tmp_path / str(rate), play=play, **{**TINY, "simulator_rate": rate})
        copied = found.party._server._replica.module.state_dict()
        final = found.trained.states["server"]
        assert all(torch.equal(copied[k], final[k]) for k in final)
    trained, untrained = (np.mean(heard[-12:]) for heard in losses.values())
    assert trained < 0.95 * untrained


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_simulators_loss_is_the_tasks_own(small: Any, tmp_path: Path, weight: float) -> None:
    pairs: list[tuple[Any, Any]] = []

    def hear(logits: Any, y: Any, loss: Any) -> None:
        p = logits.detach().sigmoid()
        cross = F.binary_cross_entropy(p, y, reduction="none").flatten(1).mean(dim=1)
        p, t = p.flatten(2), y.flatten(2)
        dice = 1 - (2 * (p * t).sum(-1) + 1) / (p.square().sum(-1) + t.sum(-1) + 1)
        pairs.append((loss.detach(), dice.mean(dim=1) if weight else cross))

    world = small(training={"batch_size": 4, "dice_weight": weight})
    world.attacked("pcat", tmp_path, play=lambda *given: Listening(*given, hear), **TINY)
    assert pairs
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_uneven_modalities_in_an_order_of_their_own(small: Any, tmp_path: Path) -> None:
    world = small(modalities=("flair", "t1", "t2"), clients=[["t2", "flair"], ["t1"]])
    found = world.attacked("sdar", tmp_path, **TINY)
    assert {e.seat: e.modalities for e in found.images().values()} == {"client-0": ("t2", "flair"), "client-1": ("t1",)}
    assert [e.images.shape[1] for e in found.images().values()] == [2, 2, 1, 1]


def test_masks_are_exchanged_among_auxiliary_patients_at_the_rate_that_is_asked_for(small: Any, tmp_path: Path) -> None:
    found = small(labels="u-shaped").attacked("pcat", tmp_path, **TINY)
    masks = torch.arange(400.0).reshape(400, 1, 1, 1)
    for rate in (0.0, 0.2, 1.0):
        found.party.params = found.party.params.model_copy(update={"label_flip": rate})
        changed = (found.party._flipped(masks) != masks).float().mean().item()
        assert changed == pytest.approx(rate, abs=0.08)


def test_volumes(tmp_path: Path, small: Any) -> None:
    world = small()
    flat, options = world.cohort, {"preset": "quick", "pilot_iterations": 1, "critic_width": 4}

    def stacked(a: Any) -> Any:
        return a[..., None, ::2, ::2].repeat(8, axis=-3)

    arrays = {name: stacked(getattr(flat, name)) for name in ("images", "labels", "brain")}
    deep = type(world)(replace(flat, **arrays), 6, world.protocol)
    for name, params in (("sdar", TINY), ("feature-space-hijack", options)):
        found = deep.attacked(name, tmp_path / name, **params)
        assert found.images()["client-1/level1"].images.shape == (6, 1, 8, 8, 8)
