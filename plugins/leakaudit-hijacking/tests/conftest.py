"""Small split trainings with an adversary in the server's seat, and the view that it is left with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from leakaudit_hijacking.plugin import leakaudit_attacks

from leakaudit.attacks import Evidence, Images, View
from leakaudit.cohorts import Cohort, Origin, Sample, Split
from leakaudit.engine.adversary import Sources, adversary_secret, owned_cohort
from leakaudit.engine.places import adversary_seat, build, played_place
from leakaudit.engine.training import Trained, Training
from leakaudit.engine.views import ViewWriter
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.plugins import AttackParams
from leakaudit.plugins.targets import import_target
from leakaudit.protocols.params import SplitParams
from leakaudit.threats import Requires
from leakaudit.wire import Party, Seat, Secret, write_tensors

SIDE = 24
Play = Callable[[Party, Seat, AttackParams], Party]


def faces() -> Cohort:
    """The 100 faces (25 x 25) that ship with scikit-image, each with its mirror image, as one-modality "patients".

    What there is to segment are the bright parts of a face: its brightest 40, 25 and 10 percent.
    """
    pixels = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")[:100, :SIDE, :SIDE]
    pixels = np.stack([pixels, pixels[:, :, ::-1]], axis=1).reshape(-1, SIDE, SIDE)
    x = 2 * pixels - 1
    cuts = [np.quantile(x, q, axis=(1, 2), keepdims=True) for q in (0.6, 0.75, 0.9)]
    labels = np.select([x > cuts[2], x > cuts[1], x > cuts[0]], [3, 1, 2], 0)
    return Cohort(
        images=x[:, None].astype(np.float32), labels=labels.astype(np.uint8), brain=np.ones(x.shape, dtype=bool),
        samples=tuple(Sample(patient=f"face-{i // 2:03d}") for i in range(len(x))), modalities=("t1",),
        origin=Origin(dataset="faces", public=True),
    )  # fmt: skip


def texture(patients: int, modalities: Sequence[str] = ("t1", "t2"), side: int = 16, seed: int = 0) -> Cohort:
    """Smooth random images, enough to drive messages; further modalities are functions of the first."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((patients, 1, side // 4, side // 4)).repeat(4, axis=2).repeat(4, axis=3)
    images = np.concatenate([np.tanh((i + 1) * coarse) for i in range(len(modalities))], axis=1)
    return Cohort(
        images=images.astype(np.float32), labels=(3 * (coarse[:, 0] > 0.8)).astype(np.uint8),
        brain=np.ones((patients, side, side), dtype=bool), samples=tuple(Sample(patient=f"p{i:03d}") for i in range(patients)),
        modalities=tuple(modalities), origin=Origin(dataset="texture", synthetic=True),
    )  # fmt: skip


@dataclass
class World:
    """A split training, honest or with an attack on board.

    Attributes:
        cohort: All patients: the first are the members (all attacked), the others the adversary's.
        members: How many patients are members.
        protocol: Parameters of the split.
        seed: Seed of the training.
        defenses: Specs of the defenses in place.
    """

    cohort: Cohort
    members: int
    protocol: Mapping[str, Any]
    seed: int = 0
    defenses: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        every = self.cohort.patients
        mine, other = every[: self.members], every[self.members :]
        self.split = Split(members=mine, validation=(), test=(), non_members=(), auxiliary=other, attacked=mine)
        held = self.cohort.of_patients(mine)
        self.facts = CohortFacts(
            modalities=self.cohort.modalities, shape=self.cohort.shape, members=len(mine), auxiliary=len(other),
            sites=self.cohort.sites, records=len(held),
        )  # fmt: skip
        params = SplitParams.model_validate(self.protocol)
        self.spec = {
            "protocol": {
                "target": "leakaudit.protocols.split:Split", "params_target": "leakaudit.protocols.params:SplitParams",
                "params": params.key(),
            },
            "cohort_facts": asdict(self.facts), "defenses": list(self.defenses),
            "sampling": {"kind": "shuffle"}, "seed": self.seed, "repeat": 0, "device": "cpu", "precision": "float32", "task": None,
        }  # fmt: skip
        self.protocol_facts = params.facts(self.facts)

    def training(self, attacker: Mapping[str, Any] | None = None) -> Training:
        return Training({**self.spec, "attacker": attacker}, self.cohort, self.split)

    def honest(self) -> Trained:
        return self.training().run()

    def attacked(self, name: str, folder: Path, play: Play | None = None, **params: Any) -> Attacked:
        """Train with an attack on board; `play` may put another party in the seat than the attack would."""
        info = next(i for i in leakaudit_attacks() if i.name == name)
        chosen = info.params.model_validate(params)
        asked = chosen.requires(self.protocol_facts)
        assert isinstance(asked, Requires), asked
        attacker = {
            "target": info.target, "params_target": f"{info.params.__module__}:{info.params.__qualname__}",
            "params": chosen.key(), "threat": asdict(asked.threat),
        }  # fmt: skip
        training = self.training(attacker)
        secret = adversary_secret(training.spec, "")
        owned = owned_cohort(training, asked.threat.auxiliary, secret)
        seen: list[Party] = []

        def place(facts: SeatFacts) -> Any:
            seat = adversary_seat(
                training.protocol, training.task, facts, attacker, self.defenses, secret=secret.branch("play"),
                lent=secret.branch("lent"), device=training.device, precision="float32", auxiliary=owned,
            )  # fmt: skip
            with pytest.MonkeyPatch.context() as patch:
                if play is not None:
                    patch.setattr(
                        import_target(info.target), "play", lambda attack, honest: play(honest, attack.seat, attack.params)
                    )
                made = played_place(training.place(facts), attacker, seat, training.secret.branch("wire", facts.id))
            seen.append(made.party)
            return made

        trained = training.run(recordings=[(asked.taps, folder / "record" / "messages")], play=("server", place))
        for seat_id, state in trained.states.items():
            (folder / "train").mkdir(parents=True, exist_ok=True)
            write_tensors(folder / "train" / f"state-{seat_id}.safetensors", state)
        if trained.own:
            write_tensors(folder / "record" / "own.safetensors", trained.own)
        stopped = None if trained.alarm is None else trained.alarm["batches"]
        sources = Sources(train=folder / "train", record=folder / "record", stopped=stopped)
        truth = ViewWriter(training, asked.threat, sources, secret).write(folder / "view")
        attack = build(attacker, Seat(SeatFacts(id="server", role="server"), Secret.from_seed(1)))
        return Attacked(trained, View(folder / "view"), attack, seen[0], training.members, truth.rows)


@dataclass
class Attacked:
    """What an attacked training left: states, view, and what only the scorer knows."""

    trained: Trained
    view: View
    attack: Any
    party: Any
    members: Cohort
    rows: Mapping[str, int]

    def evidence(self) -> list[Evidence]:
        self.attack.fit(self.view)
        return list(self.attack.run(self.view))

    def images(self) -> dict[str, Images]:
        return {e.name: e for e in self.evidence() if isinstance(e, Images)}

    def truth(self, evidence: Images) -> np.ndarray[Any, Any]:
        return self.members.channels(evidence.modalities).images[[self.rows[token] for token in evidence.about]]

    def error(self, evidence: Images) -> float:
        """Mean squared error of a reconstruction, over all voxels."""
        return float(((evidence.images - self.truth(evidence)) ** 2).mean())

    def chance(self, evidence: Images) -> float:
        """The same of the mean auxiliary image: the best guess without any message."""
        assert self.view.auxiliary is not None
        mean = self.view.auxiliary.channels(evidence.modalities).images.mean(axis=0)
        return float(((mean - self.truth(evidence)) ** 2).mean())


SMALL: dict[str, Any] = {"rounds": 2, "network": {"channels": [4, 8]}, "training": {"batch_size": 4}}


@pytest.fixture(scope="session")
def small() -> Callable[..., World]:
    """Two clients of one modality each and six members, two rounds."""

    def make(modalities: Sequence[str] = ("t1", "t2"), defenses: Sequence[Mapping[str, Any]] = (), **protocol: Any) -> World:
        return World(texture(12, modalities), 6, {**SMALL, **protocol}, defenses=defenses)

    return make


@pytest.fixture(scope="session")
def face_world() -> Callable[..., World]:
    """One client with fifty faces, the adversary with fifty others."""

    def make(seed: int = 0, **protocol: Any) -> World:
        base = {
            "rounds": 40, "network": {"channels": [8, 16, 32]}, "cut": 1,
            "training": {"batch_size": 10, "learning_rate": 2e-3},
        }  # fmt: skip
        return World(faces(), 50, {**base, **protocol}, seed)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
