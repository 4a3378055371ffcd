"""`gradient-inversion`: simulated gradients are those that crossed, and what is learned or searched from them is the patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_inversion.cut_gradient_attack import GradientInversion
from leakaudit_inversion.cut_gradient_exchange import exchange_of
from leakaudit_inversion.cut_gradient_params import GradientInversionParams
from leakaudit_inversion.cut_gradient_reading import compressed, reader_of, unit
from leakaudit_inversion.cut_gradient_search import Unknown, held_masks

from leakaudit.attacks import Images
from leakaudit.cohorts import regions
from leakaudit.errors import UserError
from leakaudit.facts import CohortFacts, ProtocolFacts, SeatFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires, Tap
from leakaudit.wire import Seat, Secret

COHORT = CohortFacts(modalities=("t1", "t2"), shape=(32, 32), members=16, auxiliary=48, sites=("site-0",), records=16)
TAP = Tap(channel="cut-gradient")
FROZEN = {"batch_size": 4, "optimizer": "sgd", "learning_rate": 1e-30, "momentum": 0.0}
"""Steps so small that no weight changes: the weights after the round are those behind every message of it."""
SMOOTH = {"channels": [8, 16], "normalization": "none", "activation": "gelu", "convolutions": 1}
MODALITIES = ("t1", "t2")


def attack(**params: Any) -> GradientInversion:
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0))
    return GradientInversion(GradientInversionParams.model_validate(params), seat)


def found(world: Any, **params: Any) -> dict[str, Images]:
    inversion = attack(**params)
    inversion.fit(world.blind())
    pieces = inversion.run(world.view())
    assert all(isinstance(piece, Images) for piece in pieces)
    return {piece.name: piece for piece in pieces if isinstance(piece, Images)}


def correlation(images: Images, world: Any) -> float:
    """Mean over targets and modalities of the correlation inside the brain."""
    values = []
    for token, guess in zip(images.about, images.images, strict=True):
        brain = world.brain[token]
        for place, modality in enumerate(images.modalities):
            truth = world.truth[token][MODALITIES.index(modality)]
            values.append(np.corrcoef(guess[place][brain], truth[brain])[0, 1])
    return float(np.mean(values))


def psnr(images: Images, world: Any) -> np.ndarray[Any, Any]:
    """Peak signal to noise ratio in dB of each target's first modality, over the whole image."""
    values = []
    for token, guess in zip(images.about, images.images, strict=True):
        truth = world.truth[token][MODALITIES.index(images.modalities[0])]
        values.append(10 * np.log10(np.ptp(truth) ** 2 / ((guess[0] - truth) ** 2).mean()))
    return np.array(values)


@pytest.fixture(scope="module")
def plain(build: Any, tmp_path_factory: Any) -> Any:
    return build(tmp_path_factory.mktemp("plain"), tapped=TAP)


@pytest.fixture(scope="module")
def smooth(build: Any, brains: Any, tmp_path_factory: Any) -> Any:
    return build(
        tmp_path_factory.mktemp("smooth"), tapped=TAP, side=16, rounds=1, cut=0, network=SMOOTH, training=FROZEN,
        victims=brains([f"v{i}" for i in range(6)], 2, 16, 1), auxiliary=brains([f"a{i}" for i in range(12)], 2, 16, 2),
    )  # fmt: skip


def whole(world: Any, cohort: Any, tokens: tuple[str, ...]) -> torch.Tensor:
    """What all parties hold of some members: images and masks."""
    order = [list(world.truth).index(token) for token in tokens]
    return torch.from_numpy(np.concatenate([cohort.images, regions(cohort.labels)], axis=1)[order])


# Simulation -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["float32", "float16"])
@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
def test_simulated_gradients_are_exactly_those_that_crossed(
    build: Any, brains: Any, tmp_path: Path, labels: str, wire: str
) -> None:
    victims = brains([f"v{i}" for i in range(8)], seed=1)
    world = build(tmp_path, rounds=1, tapped=TAP, victims=victims, labels=labels, wire=wire, training=FROZEN)
    view, form = world.view(), getattr(torch, wire)
    exchange = exchange_of(view, 0, ("client-0", "client-1"), form)
    messages = [m for m in view.messages(channel="cut-gradient") if m.receiver == "client-0"]
    assert len(messages) == 2
    for message in messages:
        (other,) = [m for m in view.messages(channel="cut-gradient", receiver="client-1") if m.samples == message.samples]
        batch = whole(world, victims, message.samples)
        simulated = exchange.send(batch)
        differentiable = exchange.send(batch.clone().requires_grad_())
        assert set(simulated) == {"level0", "level1", "level2"}
        for name, values in simulated.items():
            crossed = torch.cat([message.tensors[name], other.tensors[name]], dim=1)
            assert crossed.dtype == form
            assert crossed.abs().max() > 0
            assert torch.equal(values, crossed.float())
            torch.testing.assert_close(differentiable[name], values, rtol=1e-5, atol=1e-9)


def test_other_images_or_other_masks_give_other_gradients(smooth: Any, brains: Any) -> None:
    view = smooth.view()
    exchange = exchange_of(view, 0, ("client-0",))
    cohort = brains([f"v{i}" for i in range(6)], 2, 16, 1)
    batch = whole(smooth, cohort, tuple(smooth.truth))[:4]
    (right,) = exchange.send(batch).values()
    for channels in ([0], [1], [2, 3, 4]):  # the watcher's own image, the other hospital's, the masks
        changed = batch.clone()
        changed[:, channels] = batch.roll(1, 0)[:, channels]
        (wrong,) = exchange.send(changed).values()
        assert (wrong - right).norm() > 0.01 * right.norm()


def test_noise_at_the_cut_is_in_the_simulated_gradients(build: Any, tmp_path: Path) -> None:
    world = build(tmp_path, rounds=1, tapped=TAP, sigma=1.0)
    exchange = exchange_of(world.view(), 0, ("client-0",))
    batch = torch.randn(2, 5, 32, 32)
    first, second = exchange.send(batch), exchange.send(batch)
    assert not torch.equal(first["level0"], second["level0"])


# Reading ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [unit, compressed])
def test_what_is_read_does_not_depend_on_the_size_of_the_batch(read: Any) -> None:
    g = torch.randn(3, 4, 8, 8) * 1e-7
    torch.testing.assert_close(read(g / 8), read(g))
    torch.testing.assert_close(read(g)[:1], read(g[:1]))
    assert read(torch.zeros(1, 2, 4, 4)).abs().max() == 0


def test_the_reader_undoes_the_layer_that_fused_the_clients(plain: Any) -> None:
    view = plain.view()
    exchange = exchange_of(view, 2, ("client-0", "client-1"))
    reader = reader_of(exchange, ("client-0", "client-1"), ("client-0", "client-1"))
    assert exchange.server is not None
    fuse = exchange.server.state_dict()["trunk.fuse.level1.conv.weight".replace("level1", "1")].flatten(1)
    fused = torch.randn(2, 8, 6, 6)
    received = torch.einsum("ij,nihw->njhw", fuse, fused)
    expected = compressed(fused)
    torch.testing.assert_close(reader("level1", received), torch.cat([expected, expected.abs()], 1), atol=1e-2, rtol=1e-2)
    unknown = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(reader("level1", unknown)[:, :3], compressed(unknown))


# Learned map ------------------------------------------------------------------------------------------------------------


def test_gradients_alone_tell_a_server_the_images_of_all_clients(plain: Any, shuffle: Any, tmp_path: Path) -> None:
    inversion = attack(position="server", iterations=60, loss="mse", levels=["level0", "level2"])
    inversion.fit(plain.blind())
    pieces = inversion.run(plain.view())
    assert [e.name for e in pieces] == [f"client-{i}/{name}" for i in (0, 1) for name in ("level0", "level2")]
    for piece in pieces:
        assert isinstance(piece, Images)
        assert (piece.channel, piece.modalities) == ("cut-gradient", (MODALITIES[int(str(piece.seat)[-1])],))
        assert piece.about == tuple(t.token for t in plain.view().targets)
    right = {e.name: correlation(e, plain) for e in pieces if isinstance(e, Images)}
    base = {
        i: np.mean(
            [
                np.corrcoef(plain.view().auxiliary.images[:, i].mean(0)[b], plain.truth[t][i][b])[0, 1]
                for t, b in plain.brain.items()
            ]
        )
        for i in (0, 1)
    }
    for i in (0, 1):
        assert right[f"client-{i}/level0"] > base[i] + 0.5
        assert right[f"client-{i}/level0"] > right[f"client-{i}/level2"] + 0.2
    broken = shuffle(plain, tmp_path / "view")
    wrong = [correlation(e, broken) for e in inversion.run(broken.view()) if isinstance(e, Images)]
    assert max(wrong) < max(base.values()) + 0.12


def test_a_client_learns_images_of_another_hospital_that_its_own_do_not_tell(build: Any, brains: Any, tmp_path: Path) -> None:
    def apart(patients: list[str], seed: int) -> Any:
        """T2 becomes the T1 of the next patient, cut to this one's brain: one modality tells nothing of the other."""
        cohort = brains(patients, seed=seed)
        images = np.array(cohort.images)
        images[:, 1] = np.roll(images[:, 0], 1, axis=0) * cohort.brain
        return replace(cohort, images=images)

    world = build(
        tmp_path, tapped=TAP, plays=("client-1",),
        victims=apart([f"v{i}" for i in range(16)], 1), auxiliary=apart([f"a{i}" for i in range(48)], 2),
    )  # fmt: skip
    pieces = found(world, position="client:client-1", iterations=60, loss="mse", levels=["level0"])
    assert list(pieces) == ["client-0/level0"]
    assert correlation(pieces["client-0/level0"], world) > 0.4


def test_decoders_follow_the_number_format_of_the_wire(build: Any, tmp_path: Path) -> None:
    world = build(tmp_path, tapped=TAP, wire="float16")
    inversion = attack(position="server", iterations=5, loss="mse", levels=["level1"], clients=["client-0"])
    inversion.fit(world.blind())
    (piece,) = inversion.run(world.view())
    assert set(inversion._fitted or ()) == {torch.float32, torch.float16}
    assert isinstance(piece, Images)
    assert piece.images.shape == (16, 1, 32, 32)


def test_rounds_are_attacked_one_by_one_and_observations_together(build: Any, tmp_path: Path) -> None:
    world = build(tmp_path, tapped=Tap(channel="cut-gradient", rounds=None), plays=("server", "client-1"))
    pieces = found(world, position="collusion:client-1", iterations=3, rounds=[0, -1], levels=["level0"])
    assert list(pieces) == ["client-0/level0@0", "client-0/level0@2"]
    (both,) = found(world, position="collusion:client-1", iterations=3, observations=2, levels="joint").values()
    assert both.name == "client-0/joint"
    assert both.images.shape == (16, 1, 32, 32)


def test_two_runs_give_the_same_numbers_whatever_the_global_stream(plain: Any) -> None:
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        results.append(found(plain, position="server", iterations=5, levels=["level1"])["client-0/level1"].images)
    np.testing.assert_array_equal(results[0], results[1])


# Search -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["server", "u-shaped"])
def test_through_a_smooth_network_images_are_found_with_and_without_masks(
    build: Any, brains: Any, shuffle: Any, tmp_path: Path, labels: str
) -> None:
    world = build(
        tmp_path / "right", tapped=TAP, side=16, rounds=1, cut=0, network=SMOOTH, training=FROZEN, labels=labels,
        victims=brains([f"v{i}" for i in range(6)], 2, 16, 1), auxiliary=brains([f"a{i}" for i in range(12)], 2, 16, 2),
    )  # fmt: skip
    inversion = attack(position="server", method="optimize", iterations=250)
    inversion.fit(world.blind())
    for piece in inversion.run(world.view()):
        assert isinstance(piece, Images)
        assert psnr(piece, world).min() > 25
    broken = shuffle(world, tmp_path / "view")
    for piece in inversion.run(broken.view()):
        assert isinstance(piece, Images)
        assert psnr(piece, broken).max() < 20
        assert correlation(piece, broken) < 0.3


def test_masks_are_known_to_the_server_that_holds_them_alone(smooth: Any, build: Any, tmp_path: Path) -> None:
    masks = held_masks(smooth.view())
    assert masks is not None
    assert set(masks) == set(smooth.truth)
    assert max(float(mask.max()) for mask in masks.values()) == 1
    assert held_masks(build(tmp_path, rounds=1, tapped=TAP, plays=("client-0",)).view()) is None


def test_a_client_finds_what_it_does_not_hold(build: Any, brains: Any, tmp_path: Path) -> None:
    world = build(
        tmp_path, tapped=TAP, side=16, rounds=1, cut=0, network=SMOOTH, training=FROZEN, plays=("client-0",),
        victims=brains([f"v{i}" for i in range(6)], 2, 16, 1), auxiliary=brains([f"a{i}" for i in range(12)], 2, 16, 2),
    )  # fmt: skip
    (piece,) = found(world, position="client", method="optimize", iterations=250).values()
    assert piece.name == "client-1/level0"
    assert psnr(piece, world).min() > 25


def test_nobody_who_owns_no_patient_needs_one_to_search(build: Any, brains: Any, tmp_path: Path) -> None:
    world = build(
        tmp_path, tapped=TAP, side=16, rounds=2, cut=1, network=SMOOTH, owns="none",
        victims=brains([f"v{i}" for i in range(4)], 2, 16, 1),
    )  # fmt: skip
    pieces = found(world, position="server", method="optimize", auxiliary="none", iterations=3, levels="joint")
    assert [piece.images.shape for piece in pieces.values()] == [(4, 1, 16, 16)] * 2


def test_what_is_known_takes_its_place_among_what_is_searched() -> None:
    x, held, masks = torch.randn(2, 2, 4, 4), torch.randn(2, 1, 4, 4), torch.ones(2, 3, 4, 4)
    known = Unknown(modalities=3, searched=(0, 2), held=held, masks=masks).whole(x)
    torch.testing.assert_close(known, torch.cat([x[:, :1], held, x[:, 1:], masks], dim=1))
    odds = torch.cat([x, torch.full((2, 3, 4, 4), 20.0)], dim=1)
    torch.testing.assert_close(Unknown(modalities=3, searched=(0, 2), held=held, masks=None).whole(odds), known)


# What it asks for -------------------------------------------------------------------------------------------------------


def test_by_default_the_first_client_that_is_not_attacked_watches_what_returns_to_it() -> None:
    facts = SplitParams().facts(COHORT)
    for params, watcher in (
        ({}, "client-0"),
        ({"clients": ["client-0"]}, "client-1"),
        ({"position": "client:client-1"}, "client-1"),
    ):
        needs = GradientInversionParams.model_validate(params).requires(facts)
        assert isinstance(needs, Requires)
        assert needs.threat.plays == (watcher,)
        assert needs.threat.channels == ("cut-gradient",)
        assert needs.threat.passive
        assert needs.taps[0] == Tap(channel="cut-gradient", names=("level0", "level1"))
        assert all(tap.channel == "cut-gradient" for tap in needs.taps)
        assert set(needs.threat.channels) <= set(facts.sees(needs.threat.plays))


@pytest.mark.parametrize(
    ("labels", "params", "told"),
    [
        ("server", {"method": "optimize", "position": "server"}, True),
        ("server", {"method": "learn", "position": "server"}, False),
        ("server", {"method": "optimize", "position": "client"}, False),
        ("u-shaped", {"method": "optimize", "position": "server"}, False),
    ],
)
def test_who_uses_the_masks_that_it_holds_says_so(labels: Any, params: dict[str, Any], told: bool) -> None:
    """Chance then knows them, too."""
    needs = GradientInversionParams.model_validate(params).requires(SplitParams(labels=labels).facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.told_masks == told


def test_the_server_sees_what_returns_to_all_and_a_client_its_own() -> None:
    facts = SplitParams().facts(COHORT)
    assert GradientInversionParams().receivers(facts, ("client-1",)) == ("client-1",)
    assert GradientInversionParams().receivers(facts, ("server", "client-1")) == ("client-0", "client-1")


@pytest.mark.parametrize(
    ("params", "facts", "words"),
    [
        ({}, FederatedParams().facts(COHORT), "returns no cut gradients"),
        ({"position": "server"}, CentralizedParams().facts(COHORT), "returns no cut gradients"),
        ({"clients": ["client-0", "client-1"]}, SplitParams().facts(COHORT), "none is left to be the adversary"),
        ({}, SplitParams(clients=[["t1", "t2"]]).facts(COHORT), "no client is left to attack"),
        ({"clients": ["client-9"]}, SplitParams().facts(COHORT), "there are client-0, client-1"),
        ({"auxiliary": "none"}, SplitParams().facts(COHORT), "method optimize needs none"),
        ({"position": "client:client-7"}, SplitParams().facts(COHORT), "no client client-7"),
        ({"levels": ["level7"]}, SplitParams().facts(COHORT), "what crosses is level0, level1"),
        ({"rounds": [99]}, SplitParams(rounds=20).facts(COHORT), "there is no round 99"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: dict[str, Any], facts: ProtocolFacts, words: str) -> None:
    answer = GradientInversionParams.model_validate(params).requires(facts)
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


def test_a_search_has_no_patience() -> None:
    with pytest.raises(ValueError, match="patience is for method learn"):
        GradientInversionParams(method="optimize", patience=2)


def test_without_auxiliary_patients_the_learned_map_says_what_is_missing(build: Any, tmp_path: Path) -> None:
    world = build(tmp_path, rounds=1, tapped=TAP, owns="none")
    with pytest.raises(UserError, match="auxiliary patients"):
        attack(position="server").fit(world.blind())
