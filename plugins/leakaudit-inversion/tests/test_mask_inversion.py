"""`mask-inversion` on real views of small trainings: what it steals, and that it finds nothing in exchanged messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leakaudit_inversion import mask_readers
from leakaudit_inversion.mask_attack import MaskInversion
from leakaudit_inversion.mask_prior import MaskPrior
from leakaudit_inversion.params_masks import MaskInversionParams

from leakaudit.attacks import Evidence, EvidenceError, Masks, Values, View
from leakaudit.cohorts import Cohort, Split, regions
from leakaudit.cohorts.phantom import Phantom, PhantomParams
from leakaudit.engine.adversary import Sources, adversary_secret
from leakaudit.engine.training import Training
from leakaudit.engine.views import ViewWriter
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.protocols.params import SplitParams
from leakaudit.threats import Requires
from leakaudit.wire import Seat, Secret, write_tensors

MEMBERS = 10
Run = Callable[..., "Found"]


@cache
def phantom(dims: int = 2) -> Cohort:
    size = {"size": 32} if dims == 2 else {"size": 16, "dims": 3, "depth": 16}
    made = Phantom(PhantomParams(patients=2 * MEMBERS, slices=1, visits=1, sites=2, **size), 0)
    return made.load([entry.patient for entry in made.inventory().patients])


@dataclass
class Found:
    """Evidence of one view, and the truth."""

    evidence: Sequence[Evidence]
    members: Cohort
    rows: Mapping[str, int]

    def truth(self, about: Sequence[str]) -> Cohort:
        return self.members.take([self.rows[token] for token in about])

    def dice(self, suffix: str = "") -> list[float]:
        """Mean Dice per region over the samples that have it, of the masks whose name ends so."""
        piece = next(e for e in self.evidence if isinstance(e, Masks) and e.name.endswith(suffix))
        true = regions(self.truth(piece.about).labels) > 0
        guess = piece.masks > 0.5
        there = true.any(axis=tuple(range(2, true.ndim)))
        axes = tuple(range(2, true.ndim))
        scores = 2 * (guess & true).sum(axis=axes) / np.maximum(guess.sum(axis=axes) + true.sum(axis=axes), 1)
        return [float(scores[there[:, r], r].mean()) for r in range(3)]

    def volume_error(self) -> float:
        """Mean absolute error of the logarithm of the tumor's share of the brain."""
        piece = next(e for e in self.evidence if isinstance(e, Values))
        truth = self.truth(piece.about)
        axes = tuple(range(1, truth.labels.ndim))
        share = (truth.labels > 0).sum(axis=axes) / truth.brain.sum(axis=axes)
        return float(np.abs(np.log(np.maximum(piece.values, 1e-4) / np.maximum(share, 1e-4))).mean())


@dataclass
class World:
    """A recorded split training on the phantom."""

    training: Training
    asked: Requires
    folder: Path
    rows: Mapping[str, int]

    def attack(self, messages: str = "messages", **params: Any) -> Found:
        attack = MaskInversion(MaskInversionParams.model_validate(params), Seat(SeatFacts(id="a", role="a"), Secret.from_seed(1)))
        view = View(self.folder / "view", messages)
        attack.fit(View(self.folder / "view", None))
        return Found(list(attack.run(view)), self.training.members, self.rows)


def record(folder: Path, params: Mapping[str, Any], protocol: Mapping[str, Any], dims: int = 2, **spec: Any) -> World:
    """Train, record what these parameters of the attack ask for, and write their view."""
    cohort = phantom(dims)
    members, other = cohort.patients[:MEMBERS], cohort.patients[MEMBERS:]
    facts = CohortFacts(
        modalities=cohort.modalities, shape=cohort.shape, members=MEMBERS, auxiliary=len(other), sites=cohort.sites,
        records=len(cohort.of_patients(members)),
    )  # fmt: skip
    base = {"rounds": 3, "clients": [["flair"], ["t1"]], "network": {"channels": [4, 8], "convolutions": 1}}
    chosen = SplitParams.model_validate({**base, "training": {"batch_size": 4}, **protocol})
    needs = MaskInversionParams.model_validate(params).requires(chosen.facts(facts))
    assert isinstance(needs, Requires), needs
    attacker = {
        "target": "leakaudit_inversion.mask_attack:MaskInversion",
        "params_target": "leakaudit_inversion.params_masks:MaskInversionParams",
        "params": MaskInversionParams.model_validate(params).key(), "threat": asdict(needs.threat),
    }  # fmt: skip
    plan = {
        "protocol": {
            "target": "leakaudit.protocols.split:Split", "params_target": "leakaudit.protocols.params:SplitParams",
            "params": chosen.key(),
        },
        "cohort_facts": asdict(facts), "defenses": [], "sampling": {"kind": "shuffle"}, "seed": 0, "repeat": 0, "device": "cpu",
        "precision": "float32", "task": None, "attacker": attacker, **spec,
    }  # fmt: skip
    split = Split(members=members, validation=(), test=(), non_members=(), auxiliary=other, attacked=members)
    training = Training(plan, cohort, split)
    trained = training.run(recordings=[(needs.taps, folder / "record" / "messages")])
    (folder / "train").mkdir()
    for seat, state in trained.states.items():
        write_tensors(folder / "train" / f"state-{seat}.safetensors", state)
    for round_, states in trained.snapshots.items():
        for seat, state in states.items():
            write_tensors(folder / "record" / f"state-{seat}@{round_}.safetensors", state)
    sources = Sources(train=folder / "train", record=folder / "record")
    truth = ViewWriter(training, needs.threat, sources, adversary_secret(plan, "")).write(folder / "view")
    return World(training, needs, folder, truth.rows)


U_SHAPED: dict[str, Any] = {"labels": "u-shaped"}


@pytest.mark.parametrize(("dice_weight", "wire"), [(0.5, "float32"), (0.0, "float16"), (1.0, "float16")])
def test_every_mask_is_recovered_exactly_in_every_round(tmp_path: Path, dice_weight: float, wire: str) -> None:
    params = {"rounds": [0, 1, -1]}
    training = {"batch_size": 4, "dice_weight": dice_weight}
    found = record(tmp_path, params, {**U_SHAPED, "wire": wire, "training": training}).attack(**params)
    assert [e.name for e in found.evidence] == [f"labels/features@{r}{v}" for r in (0, 1, 2) for v in ("", "/volume")]
    for suffix in ("@0", "@1", "@2"):
        assert found.dice(suffix) == [1.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def u_shaped(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A U-shaped split whose last round was recorded."""
    return record(tmp_path_factory.mktemp("u-shaped"), {"observations": 2}, U_SHAPED)


def test_exchanged_messages_tell_of_other_patients(u_shaped: World) -> None:
    real, exchanged = u_shaped.attack(), u_shaped.attack("messages-shuffled")
    assert real.dice() == [1.0, 1.0, 1.0]
    assert max(exchanged.dice()) < 0.5
    assert [e.about for e in real.evidence] == [e.about for e in exchanged.evidence]
    assert real.volume_error() < 0.15 < exchanged.volume_error()
    piece = real.evidence[0]
    assert (piece.channel, piece.seat, piece.level, piece.round) == ("cut-gradient", "labels", "features", None)


def test_a_head_that_moves_fast_and_uneven_batches(tmp_path: Path) -> None:
    training = {"batch_size": 3, "learning_rate": 1e-2}
    assert min(record(tmp_path, {}, {**U_SHAPED, "training": training}).attack().dice()) > 0.99


def test_noise_on_what_the_server_and_the_clients_send_changes_nothing(tmp_path: Path) -> None:
    """The label holder answers what it was sent, and the server knows what it sent."""
    noise = {
        "name": "gaussian-noise", "target": "leakaudit_cut.noise:GaussianNoise", "seats": ["client", "server"],
        "params_target": "leakaudit_cut.params:GaussianNoiseParams", "stochastic": True,
        "params": {"sigma": 1.0, "roles": ["client", "server"]},
    }  # fmt: skip
    assert record(tmp_path, {}, U_SHAPED, defenses=[noise]).attack().dice() == [1.0, 1.0, 1.0]


def test_volumes_in_three_dimensions(tmp_path: Path) -> None:
    found = record(tmp_path, {}, {**U_SHAPED, "rounds": 2}, dims=3).attack()
    assert found.dice() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("method", ["norm", "direction"])
def test_an_unknown_head_hides_little_of_the_whole_tumor(u_shaped: World, method: str) -> None:
    assert u_shaped.attack(method=method).dice()[0] > 0.4
    assert u_shaped.attack("messages-shuffled", method=method).dice()[0] < 0.3


def test_a_client_sees_tumors_in_the_gradients_it_is_sent(tmp_path: Path) -> None:
    params = {"position": "client:client-0", "rounds": [0, -1]}
    world = record(tmp_path, params, {"labels": "server", "rounds": 6})
    real, exchanged = world.attack(**params), world.attack("messages-shuffled", **params)
    assert [e.name for e in real.evidence][:2] == ["client-0/level0@0", "client-0/level0@0/volume"]
    assert real.evidence[0].seat == "server"
    assert real.dice("@0")[0] > exchanged.dice("@0")[0] + 0.2


def test_a_client_without_the_finest_level_gets_masks_in_full_size(tmp_path: Path) -> None:
    params = {"position": "client:client-1", "method": "direction"}
    found = record(tmp_path, params, {"labels": "server", "skips": [], "cut": 1}).attack(**params)
    piece = found.evidence[0]
    assert isinstance(piece, Masks)
    assert piece.name == "client-1/level1"
    assert piece.masks.shape == (MEMBERS, 3, 32, 32)


def test_a_rehearsal_on_own_patients_chooses_the_method_under_the_defense(u_shaped: World) -> None:
    attack = MaskInversion(MaskInversionParams(rounds=(1, -1)), Seat(SeatFacts(id="a", role="a"), Secret.from_seed(1)))
    view = View(u_shaped.folder / "view", None)
    attack.fit(view)
    assert set((attack._methods or {}).values()) == {"closed-form"}
    called = {seat for seat, replica in view.replicas_given if replica.calls and replica.defended}
    assert called == {"client-0", "client-1", "server", "labels"}


def test_a_method_that_fails_on_own_patients_is_not_chosen(u_shaped: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_readers, "solved_masks", lambda gradient, features, head: 0 * gradient[:, :3])
    attack = MaskInversion(MaskInversionParams(), Seat(SeatFacts(id="a", role="a"), Secret.from_seed(1)))
    attack.fit(View(u_shaped.folder / "view", None))
    assert set((attack._methods or {}).values()) <= {"norm", "direction"}


def test_several_observations_vote(u_shaped: World) -> None:
    piece = u_shaped.attack(method="norm", observations=2).evidence[0]
    assert isinstance(piece, Masks)
    assert set(np.unique(piece.masks)) == {0.0, 0.5, 1.0}
    once = u_shaped.attack(method="norm").evidence[0]
    assert isinstance(once, Masks)
    assert set(np.unique(once.masks)) == {0.0, 1.0}


def test_who_owns_no_patients_guesses_masks_and_no_volume(tmp_path: Path) -> None:
    params = {"method": "norm", "auxiliary": "none"}
    found = record(tmp_path, params, U_SHAPED).attack(**params)
    assert [type(e) for e in found.evidence] == [Masks]


def test_patients_who_do_not_cross_in_a_round_are_guessed(tmp_path: Path) -> None:
    params = {"rounds": [0, 1, 2, 3]}
    protocol = {**U_SHAPED, "rounds": 4, "training": {"batch_size": 3}}
    world = record(tmp_path, params, protocol, sampling={"kind": "poisson"})
    view = View(world.folder / "view")
    prior = MaskPrior.of(view)
    assert prior is not None
    for piece in world.attack(**params).evidence:
        assert piece.about == tuple(target.token for target in view.targets)
        if isinstance(piece, Masks) and piece.round is not None:
            crossed = {t for m in view.messages(channel="cut-gradient", round=piece.round) for t in m.samples}
            missing = [i for i, token in enumerate(piece.about) if token not in crossed]
            assert missing
            assert np.array_equal(piece.masks[missing], [prior.majority(view.targets[i].position).numpy() for i in missing])


def test_a_round_without_any_gradient_is_an_error(u_shaped: World) -> None:
    attack = MaskInversion(MaskInversionParams(), Seat(SeatFacts(id="a", role="a"), Secret.from_seed(1)))
    with pytest.raises(EvidenceError, match="no cut gradient of a target reached 'server' in the last rounds"):
        attack.run(View(u_shaped.folder / "view", None))
