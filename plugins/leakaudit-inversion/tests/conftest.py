"""A small split training on made-up brains, recorded and cut down to the view of a curious server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from scipy import ndimage

from leakaudit.attacks import View
from leakaudit.attacks.contents import save_cohort
from leakaudit.cohorts import Cohort, Origin, Sample, regions
from leakaudit.defenses import Chain, Defense
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.plugins import DefenseParams
from leakaudit.plugins.targets import import_target
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.split import Split
from leakaudit.threats import Tap
from leakaudit.wire import Message, MessageLog, Recorder, Seat, Secret, Wire, write_tensors

MODALITIES = ("t1", "t2")


class JitterParams(DefenseParams):
    """Parameters of the toy defense."""

    sigma: float = Field(1.0, description="Standard deviation of the noise.")


class Jitter(Defense[JitterParams]):
    """Gaussian noise on activations."""

    def outgoing(self, message: Message) -> Message | None:
        if message.channel != "activation":
            return message
        rng = self.seat.rng("noise")
        noisy = {
            k: t + self.params.sigma * torch.randn(t.shape, generator=rng, device=t.device) for k, t in message.tensors.items()
        }
        return message.carrying(noisy)


class DropperParams(DefenseParams):
    """Parameters of the toy dropout."""

    rate: float = Field(0.5, description="Share of entries that are dropped.")


class Dropper(Defense[DropperParams]):
    """Dropout of activations, visible as zeros."""

    def outgoing(self, message: Message) -> Message | None:
        if message.channel != "activation":
            return message
        rng, rate = self.seat.rng("dropout"), self.params.rate
        kept = {k: torch.rand(t.shape, generator=rng, device=t.device) >= rate for k, t in message.tensors.items()}
        return message.carrying({k: t * kept[k] / (1 - rate) for k, t in message.tensors.items()})


@dataclass(frozen=True)
class World:
    """A view's folder and the truth behind its tokens."""

    folder: Path
    truth: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]
    brain: Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]]

    def view(self) -> View:
        return View(self.folder)

    def blind(self) -> View:
        """The view that `fit` gets: without messages."""
        return View(self.folder.parent / "blind")


def brains(patients: Sequence[str], dims: int = 2, side: int = 32, seed: int = 0) -> Cohort:
    """Ellipses with smooth texture of their own, z-scored inside; T2 is a nonlinear function of the texture."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side),) * dims, indexing="ij")
    images, labels, masks = [], [], []
    for _ in patients:
        radius = rng.uniform(0.7, 0.9, dims)
        brain = sum((a / r) ** 2 for a, r in zip(axes, radius, strict=True)) < 1
        texture = ndimage.gaussian_filter(rng.standard_normal((side,) * dims), side / 20)
        texture = texture / texture.std() - 1.5 * np.hypot(axes[0], axes[1])
        center = rng.uniform(-0.4, 0.4, dims)
        tumor = brain & (sum((a - c) ** 2 for a, c in zip(axes, center, strict=True)) < 0.05)
        pair = []
        for channel in (texture - tumor, np.tanh(-texture) + 1.5 * tumor):
            inside = channel[brain]
            pair.append(np.where(brain, (channel - inside.mean()) / inside.std(), 0))
        images.append(np.stack(pair))
        labels.append(tumor * 3)
        masks.append(brain)
    return Cohort(
        images=np.stack(images).astype(np.float32), labels=np.stack(labels).astype(np.uint8), brain=np.stack(masks),
        samples=tuple(Sample(patient=p) for p in patients), modalities=MODALITIES, origin=Origin(dataset="toy", synthetic=True),
    )  # fmt: skip


def build(
    folder: Path,
    *,
    dims: int = 2,
    side: int = 32,
    sigma: float | None = None,
    rounds: int = 3,
    tapped: Tap | None = None,
    knows: tuple[str, ...] = ("architecture", "weights", "defense", "sample-ids"),
    victims: Cohort | None = None,
    auxiliary: Cohort | None = None,
    owns: str = "same",
    plays: tuple[str, ...] = ("server",),
    defense: dict[str, Any] | None = None,
    **params: Any,
) -> World:
    """Train, record and write the view `folder/view` and the view without messages `folder/blind`.

    Args:
        folder: Where to write.
        dims: 2 or 3.
        side: Voxels along each axis.
        sigma: Noise level of the toy defense, None for none.
        rounds: Rounds of training; weights after each of them are in the view.
        tapped: Messages to record.
        knows: Grants.
        victims: Members.
        auxiliary: The adversary's patients.
        owns: The auxiliary regime; `"none"` writes no auxiliary patients.
        plays: Roles and seats of the adversary; what these hold is in the view.
        defense: Another defense of the clients: `target`, `params_target` and `params`.
        **params: Of the protocol.
    """
    if sigma is not None:
        defense = toy(Jitter, sigma=sigma)
    victims = victims or brains([f"v{i}" for i in range(16)], dims, side, seed=1)
    auxiliary = auxiliary or brains([f"a{i}" for i in range(48)], dims, side, seed=2)
    facts = CohortFacts(
        modalities=victims.modalities, shape=victims.shape, members=len(victims), auxiliary=len(auxiliary), sites=("site-0",),
        records=len(victims),
    )  # fmt: skip
    given = {"network": {"channels": [8, 8, 8]}, "training": {"batch_size": 4}, "rounds": rounds, "cut": 2, **params}
    protocol = Split(SplitParams.model_validate(given), facts)
    task, secret = load_task(protocol.task()), Secret.from_seed(3)
    tokens = tuple(secret.branch("tokens").token(s.patient) for s in victims.samples)
    tap = tapped or Tap(channel="activation")

    def wanted(message: Message) -> tuple[tuple[str, ...] | None, list[int] | None] | None:
        hit = message.channel == tap.channel and (message.round - rounds) in (tap.rounds or range(-rounds, 0))
        return (tap.names, None) if hit else None

    def guard(seat: Seat) -> Chain:
        parts = [_built(defense, seat)] if defense is not None and seat.role == "client" else []
        return Chain(parts, seat)

    images, masks = torch.from_numpy(victims.images), torch.from_numpy(regions(victims.labels))
    parties = {}
    for f in protocol.facts.seats:
        index = [victims.modalities.index(m) for m in f.modalities]
        holds = Holdings(
            tokens=tokens, units=torch.arange(len(victims)), images=images[:, index] if index else None,
            regions=masks if f.labels else None,
        )  # fmt: skip
        seat = Seat(f, secret.branch(f.id), shared=secret.branch("shared"))
        parties[f.id] = protocol.party(seat, task, guard(seat), holds)
    recorder = Recorder(folder / "view" / "messages", wanted)
    snapshots: dict[int, dict[str, Mapping[str, torch.Tensor]]] = {}

    def after_round(number: int) -> None:
        snapshots[number] = {k: {n: t.detach().clone() for n, t in p.state().items()} for k, p in parties.items()}

    wire = Wire(parties, secret.branch("wire"), (recorder,), after_round=after_round)
    batch = protocol.params.training.batch_size
    schedule = Schedule(tokens, range(len(victims)), rounds, batch, Sampling(), secret.branch("schedule"))
    protocol.run(wire, schedule)
    recorder.close()

    after_round(rounds - 1)
    states = {str(r): f"{{seat}}@{r}.safetensors" for r in snapshots} | {"-1": f"{{seat}}@{rounds - 1}.safetensors"}
    threat = {
        "plays": list(plays), "alters": [], "channels": ["activation"], "knows": list(knows), "auxiliary": owns,
    }  # fmt: skip
    data = {
        "threat": threat,
        "facts": asdict(protocol.facts),
        "defenses": [] if defense is None else [{"name": "toy", "seats": ["client"], "stochastic": True}],
        "targets": [{"token": t} for t in tokens],
        "task": {"target": protocol.task().target, "params": protocol.task().params},
        "modalities": victims.modalities,
        "protocol": {
            "target": "leakaudit.protocols.split:Split", "params_target": "leakaudit.protocols.params:SplitParams",
            "params": protocol.params.key(), "cohort": asdict(facts),
        },
        "replicas": {
            f.id: {
                "defenses": [defense] if defense is not None and f.role == "client" else [],
                "defense_state": None, "complete": True,
                "states": {r: name.format(seat=f.id) for r, name in states.items()} if "weights" in knows else {},
            }
            for f in protocol.facts.seats
        },
        "secret": Secret.from_seed(99).key.hex(),
    }  # fmt: skip
    for name in ("view", "blind"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "view.json").write_text(json.dumps(data))
        if owns != "none":
            save_cohort(folder / name / "auxiliary", auxiliary)
        played = [protocol.facts.seat(seat) for seat in protocol.facts.played(plays)]
        held = [m for seat in played for m in seat.modalities]
        if held or any(seat.labels for seat in played):
            save_cohort(folder / name / "holdings", _holdings(victims.channels(held), tokens))
        for number, parts in snapshots.items():
            for seat_id, state in parts.items():
                write_tensors(folder / name / f"{seat_id}@{number}.safetensors", state)
    return World(
        folder=folder / "view", truth=dict(zip(tokens, victims.images, strict=True)),
        brain=dict(zip(tokens, victims.brain, strict=True)),
    )  # fmt: skip


def toy(defense: type, **params: Any) -> dict[str, Any]:
    """Return a toy defense of this file as a view names it."""
    target = f"{defense.__module__}:{defense.__name__}"
    return {"target": target, "params_target": f"{target}Params", "params": params}


def _built(spec: Mapping[str, Any], seat: Seat) -> Defense[Any]:
    params = import_target(spec["params_target"]).model_validate(spec["params"])
    return import_target(spec["target"])(params, seat)  # type: ignore[no-any-return]


def _holdings(cohort: Cohort, tokens: Sequence[str]) -> Cohort:
    return replace(cohort, samples=tuple(Sample(patient=t) for t in tokens))


def shuffle(world: World, folder: Path) -> World:
    """The negative control: every token's rows replaced by those of another, the same at all clients."""
    tokens = list(world.truth)
    other = dict(zip(tokens, tokens[1:] + tokens[:1], strict=True))
    for item in world.folder.rglob("*"):
        if item.is_file() and item.parent.name != "messages":
            target = folder / item.relative_to(world.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(item.read_bytes())
    recorder = Recorder(folder / "messages", lambda _: (None, None))
    for message in MessageLog(world.folder / "messages").messages():
        recorder.record(replace(message, samples=tuple(other[t] for t in message.samples)))
    recorder.close()
    return World(folder=folder, truth=world.truth, brain=world.brain)


@pytest.fixture(name="build", scope="session")
def _build() -> Any:
    return build


@pytest.fixture(name="shuffle", scope="session")
def _shuffle() -> Any:
    return shuffle


@pytest.fixture(name="brains", scope="session")
def _brains() -> Any:
    return brains


@pytest.fixture(name="toys", scope="session")
def _toys() -> Any:
    return lambda name, **params: toy({"Jitter": Jitter, "Dropper": Dropper}[name], **params)
