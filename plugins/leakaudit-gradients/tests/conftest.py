"""A small federated training on made-up brains, recorded and cut down to the view of a curious aggregator."""

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
from leakaudit.models import SegmentationTask, load_task
from leakaudit.plugins import DefenseParams
from leakaudit.protocols import Holdings, Sampling, Schedule
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import FederatedParams
from leakaudit.wire import Message, MessageLog, Recorder, Seat, Secret, Wire
from leakaudit.wire.recording import write_tensors

torch.set_num_threads(1)
MODALITIES = ("t1", "t2")


class HalvingParams(DefenseParams):
    """Parameters of the toy defense."""

    share: float = Field(0.5, description="Share of every update that is sent.")


class Halving(Defense[HalvingParams]):
    """Sends only a share of every update."""

    def outgoing(self, message: Message) -> Message | None:
        if message.channel != "update":
            return message
        return message.carrying({name: tensor * self.params.share for name, tensor in message.tensors.items()})


@dataclass(frozen=True)
class World:
    """A view's folder and what its updates were made of."""

    folder: Path
    victims: Cohort
    sites: Mapping[str, list[int]]
    """Rows of the victims by site."""
    tokens: Mapping[str, str]
    """Site behind each token."""

    def view(self, messages: str = "messages") -> View:
        return View(self.folder, messages)


def brains(count: int, dims: int = 2, side: int = 16, seed: int = 0) -> Cohort:
    """Ellipses with smooth texture of their own, z-scored inside, and a tumor whose size differs."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side),) * dims, indexing="ij")
    images, labels, masks = [], [], []
    for _ in range(count):
        radius = rng.uniform(0.75, 0.95, dims)
        brain = sum((a / r) ** 2 for a, r in zip(axes, radius, strict=True)) < 1
        texture = ndimage.gaussian_filter(rng.standard_normal((side,) * dims), side / 14)
        texture = texture / texture.std() - 1.5 * np.hypot(axes[0], axes[1])
        center = rng.uniform(-0.35, 0.35, dims)
        tumor = brain & (sum((a - c) ** 2 for a, c in zip(axes, center, strict=True)) < rng.uniform(0.05, 0.4))
        pair = []
        for channel in (texture - tumor, np.tanh(-texture) + 1.5 * tumor):
            inside = channel[brain]
            pair.append(np.where(brain, (channel - inside.mean()) / inside.std(), 0))
        images.append(np.stack(pair))
        labels.append(tumor * 3)
        masks.append(brain)
    return Cohort(
        images=np.stack(images).astype(np.float32), labels=np.stack(labels).astype(np.uint8), brain=np.stack(masks),
        samples=tuple(Sample(patient=f"p{seed}-{i}") for i in range(count)), modalities=MODALITIES,
        origin=Origin(dataset="toy", synthetic=True),
    )  # fmt: skip


def task(dims: int = 2, **changes: Any) -> SegmentationTask:
    """A tiny smooth network without normalization; `changes` are of its network or its training."""
    network = {"channels": [8, 16], "normalization": "none", "activation": "gelu", "convolutions": 1}
    training = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0, "batch_size": 1}
    for name, value in changes.items():
        (network if name in network else training)[name] = value
    return SegmentationTask(network=network, training=training, dims=dims, groups=[[0, 1]], levels=[0, 1])


def psnr(guess: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of one image, over its range, in dB."""
    return float(10 * torch.log10((truth.amax() - truth.amin()).square() / (guess - truth).square().mean()))


def tensors(cohort: Cohort) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and region masks of a cohort."""
    return torch.from_numpy(cohort.images), torch.from_numpy(regions(cohort.labels))


def build(
    folder: Path,
    *,
    counts: Sequence[int] = (1, 1),
    rounds: int = 1,
    defended: bool = False,
    stochastic: bool = False,
    victims: Cohort | None = None,
    auxiliary: Cohort | None = None,
    owns: str = "same",
    told: bool = False,
    side: int = 16,
    training: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    **params: Any,
) -> World:
    """Train sites with so many samples each, and write `folder/view` with the real and the shuffled messages.

    Args:
        folder: Where to write.
        counts: Samples of each site.
        rounds: Rounds of training; all are in the view.
        defended: Whether sites carry the toy defense.
        stochastic: Whether it is said to be randomized.
        victims: The sites' patients.
        auxiliary: The adversary's patients.
        owns: The auxiliary regime.
        told: Whether the masks behind the updates are granted.
        side: Voxels along each axis.
        training: Changes of the training parameters.
        network: Changes of the network's parameters.
        **params: Of the protocol.
    """
    victims, auxiliary = victims or brains(sum(counts), side=side, seed=1), auxiliary or brains(24, side=side, seed=2)
    ends = np.cumsum(counts)
    rows = {f"site-{i}": list(range(end - n, end)) for i, (n, end) in enumerate(zip(counts, ends, strict=True))}
    facts = CohortFacts(
        modalities=MODALITIES, shape=victims.shape, members=len(victims), auxiliary=len(auxiliary), sites=tuple(rows),
        records=len(victims),
    )  # fmt: skip
    given: dict[str, Any] = {
        "network": {"channels": [8, 16], "normalization": "none", "activation": "gelu", "convolutions": 1, **(network or {})},
        "training": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0, "batch_size": 8, **(training or {})},
        "rounds": rounds, **params,
    }  # fmt: skip
    protocol = Federated(FederatedParams.model_validate(given), facts)
    built, secret = load_task(protocol.task()), Secret.from_seed(3)
    images, masks = tensors(victims)
    parties = {}
    for f in protocol.facts.seats:
        mine = rows.get(f.id, [])
        holds = Holdings(
            tokens=tuple(f"row-{i}" for i in mine), units=torch.arange(len(mine)), images=images[mine] if mine else None,
            regions=masks[mine] if mine else None, sampling=Sampling(),
        )  # fmt: skip
        seat = Seat(f, secret.branch(f.id), shared=secret.branch("shared"))
        guard = Chain([Halving(HalvingParams(), seat)] if defended and mine else [], seat)
        parties[f.id] = protocol.party(seat, built, guard, holds)
    whole = Recorder(folder / "whole", lambda message: (None, None) if message.channel in ("update", "model") else None)
    wire = Wire(parties, secret.branch("wire"), (whole,))
    protocol.run(wire, Schedule(("row-0",), (0,), rounds, 1, Sampling(), secret.branch("schedule")))
    whole.close()
    tokens = _tokens(folder, rows)
    spec = {"target": f"{__name__}:Halving", "params_target": f"{__name__}:HalvingParams", "params": {}}
    data = {
        "threat": {
            "plays": ["aggregator"], "channels": ["update", "model"], "auxiliary": owns,
            "knows": ["architecture", "defense", *(["labels"] if told else [])],
        },
        "facts": asdict(protocol.facts), "modalities": MODALITIES,
        "defenses": [{"name": "halving", "seats": ["site"], "stochastic": stochastic}] if defended else [],
        "targets": [{"token": t, "kind": "message", "size": len(rows[s])} for t, s in sorted(tokens.items())],
        "task": {"target": protocol.task().target, "params": protocol.task().params},
        "protocol": {
            "target": "leakaudit.protocols.federated:Federated", "params_target": "leakaudit.protocols.params:FederatedParams",
            "params": protocol.params.key(), "cohort": asdict(facts),
        },
        "replicas": {
            f.id: {
                "defenses": [spec] if defended and f.role == "site" else [], "defense_state": None, "complete": True, "states": {},
            }
            for f in protocol.facts.seats
        },
        "secret": Secret.from_seed(99).key.hex(),
    }  # fmt: skip
    (folder / "view.json").write_text(json.dumps(data))
    save_cohort(folder / "auxiliary", auxiliary)
    if told:
        labels = {t: torch.from_numpy(victims.labels[rows[s]]) for t, s in tokens.items()}
        write_tensors(folder / "labels.safetensors", labels)
    return World(folder=folder, victims=victims, sites=rows, tokens=tokens)


def _tokens(folder: Path, rows: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Write the messages with a token on every update, and again with the updates of sites exchanged."""
    sites = sorted(rows)
    other = dict(zip(sites, sites[1:] + sites[:1], strict=True))
    tokens: dict[str, str] = {}
    for name in ("messages", "messages-shuffled"):
        recorder = Recorder(folder / name, lambda _: (None, None))
        for message in MessageLog(folder / "whole").messages():
            shown = message
            if message.channel == "update":
                sender = message.sender if name == "messages" else other[message.sender]
                token = f"{'zyx'[sites.index(sender) % 3]}-{sender}-{message.round}"
                tokens[token] = sender
                shown = replace(message, sender=sender, samples=(token,))
            recorder.record(shown)
        recorder.close()
    return tokens


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Any:
    return lambda **options: build(tmp_path / "view", **options)


@pytest.fixture(name="tools", scope="session")
def _tools() -> Any:
    """Give what tests of this package build from: `brains`, `task`, `tensors`, `psnr`."""

    class Tools:
        pass

    for function in (brains, task, tensors, psnr):
        setattr(Tools, function.__name__, staticmethod(function))
    return Tools
