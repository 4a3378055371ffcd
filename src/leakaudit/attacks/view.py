"""A view: a recording cut down to one threat model, opened on a folder, with no way to anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakaudit.attacks.contents import DefenseFacts, PlantedGradient, Shadow, load_cohort
from leakaudit.attacks.evidence import Target
from leakaudit.cohorts.cohort import Cohort
from leakaudit.defenses.chain import Chain
from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.models.canary import GradientCanary
from leakaudit.models.task import Task, TaskSpec, load_task
from leakaudit.plugins.targets import import_target
from leakaudit.protocols.sending import restored
from leakaudit.threats import ThreatModel
from leakaudit.wire.messages import Message
from leakaudit.wire.recording import MessageLog, read_tensors
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat, Secret

__all__ = ["View"]


class View:
    """What one adversary has: its messages, what it holds, its auxiliary cohort, public facts, replicas as granted.

    Args:
        folder: The view's folder.
        messages: Name of the message set within the folder; None for a view without messages.
        device: Where the attack computes.
    """

    def __init__(self, folder: Path, messages: str | None = "messages", device: torch.device | str = "cpu") -> None:
        self._folder, self._messages = folder, messages
        self._data: dict[str, Any] = json.loads((folder / "view.json").read_text())
        self.device = torch.device(device)
        self.replicas_given: list[tuple[str, Replica]] = []
        self.shadows_given = 0
        self._predictors = 0

    @cached_property
    def threat(self) -> ThreatModel:
        """The threat model that this view was cut down to."""
        return ThreatModel.from_json(self._data["threat"])

    @cached_property
    def facts(self) -> ProtocolFacts:
        """The protocol."""
        return ProtocolFacts.from_json(self._data["facts"])

    @cached_property
    def defenses(self) -> tuple[DefenseFacts, ...]:
        """The defenses in place, as far as they are public."""
        return tuple(DefenseFacts(**{**d, "seats": tuple(d["seats"])}) for d in self._data["defenses"])

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """What evidence must be about."""
        return tuple(Target(**t) for t in self._data["targets"])

    @cached_property
    def task(self) -> Task:
        """The task the victims learn: network and loss.

        Raises:
            PermissionError: The threat model does not grant the architecture.
        """
        self._granted("architecture")
        return load_task(TaskSpec(**self._data["task"]))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """All modalities of the cohort, in channel order."""
        return tuple(self._data["modalities"])

    @cached_property
    def own(self) -> dict[str, torch.Tensor]:
        """The state of the party that this attack played in training; empty if it played none."""
        path = self._folder / "own.safetensors"
        return read_tensors(path) if path.exists() else {}

    def _cohort(self, name: str) -> Cohort | None:
        return load_cohort(self._folder / name) if (self._folder / name).exists() else None

    @cached_property
    def auxiliary(self) -> Cohort | None:
        """The patients the adversary owns, with masks; None if it owns none."""
        return self._cohort("auxiliary")

    @cached_property
    def holdings(self) -> Cohort | None:
        """The images (and masks) of the members that the seats it plays hold; patients are tokens. None if they hold none."""
        return self._cohort("holdings")

    @cached_property
    def candidates(self) -> Cohort | None:
        """Candidate patients whose membership is asked, members and non-members mixed; patients are tokens.

        An adversary that sees models in place of answers finds in the shuffled message set the images of other candidates behind
        the tokens and masks, so that what it computes of them there tells nothing.
        """
        shuffled = None if self._messages is None else self._cohort(f"candidates-of-{self._messages}")
        return self._cohort("candidates") if shuffled is None else shuffled

    @cached_property
    def labels(self) -> dict[str, NDArray[np.uint8]]:
        """The masks of the samples behind each target and each row that crosses, by token: canonical labels (size, *spatial).

        Those of one update are in no order.
        In the shuffled message set they are still those of the target, while the messages are somebody else's. Chance knows them,
        too, and evidence about masks or volumes is refused.

        Raises:
            PermissionError: The threat model does not grant them, or grants candidates, whose masks these then are.
        """
        if not self.threat.told_masks:
            self._granted("labels")
            raise PermissionError("with candidates, the masks granted are theirs: see View.candidates")
        return {token: labels.numpy() for token, labels in read_tensors(self._folder / "labels.safetensors").items()}

    @cached_property
    def shadows(self) -> tuple[Shadow, ...]:
        """Shadow models of the engine."""
        listing = self._data.get("shadows", [])
        self.shadows_given = len(listing)
        return tuple(
            Shadow(state=read_tensors(self._folder / s["file"]), members=tuple(s["members"]), own=tuple(s["own"])) for s in listing
        )

    def predictor(self, shadow: Shadow) -> torch.nn.Module:
        """Return what answers as the deployed model would with a shadow model's weights, in evaluation mode.

        Images (n, modalities, *spatial) in, logits (n, regions, *spatial) out. Defenses at the cut that the shadow model learned
        under act at prediction too, as they do in the deployed model, under fresh randomness, with what they learned along with it.

        Raises:
            PermissionError: The threat model does not grant the architecture.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of weights that are replaced at once
            network = self.task.build()
        clients, links = self.facts.seats_of("client"), self._data.get("shadow_sends", [])
        sending: list[tuple[str, Chain]] = []
        if clients and links:
            secret = Secret(bytes.fromhex(self._data["secret"])).branch("predictor", str(self._predictors))
            self._predictors += 1
            seats = [Seat(c, secret.branch(c.id), device=self.device, protocol=self.facts, task=self.task) for c in clients]
            sending = [(s.id, Chain([_defense(d, s) for d in links if s.role in d["seats"]], s)) for s in seats]
        return restored(network, shadow.state, sending).to(self.device).eval()

    @cached_property
    def gradients(self) -> tuple[PlantedGradient, ...]:
        """The gradient canaries that this attack crafted; empty if it crafted none, and on the view without messages."""
        listing = self._data.get("canaries", {}).get(self._messages, [])
        return tuple(PlantedGradient(token=c["token"], seat=c["seat"], canary=GradientCanary(**c["canary"])) for c in listing)

    def messages(self, **where: str | int) -> Iterator[Message]:
        """Yield messages one at a time from disk, in the order they crossed the wire.

        Args:
            **where: Equality on `channel`, `sender`, `receiver`, `round` or `step`.
        """
        return iter(()) if self._messages is None else MessageLog(self._folder / self._messages).messages(**where)

    def replica(self, seat: str, *, round: int = -1) -> Replica:
        """Return a replica of `seat` after `round` (-1: after training), with the seat's defenses if these are granted.

        Without the grant `"weights"` it is a fresh network of the same architecture; the weights of the seats the
        adversary plays are always granted.

        Raises:
            PermissionError: The threat model does not grant the architecture.
            KeyError: There is no such seat, or no snapshot of that round.
        """
        self._granted("architecture")
        facts = self.facts.seat(seat)
        protocol = self._protocol
        entry = self._data["replicas"][seat]
        secret = Secret(bytes.fromhex(self._data["secret"])).branch("replica", seat, str(len(self.replicas_given)))
        guard_seat = Seat(facts, secret, device=self.device, protocol=self.facts, task=self.task)
        guard = Chain([_defense(d, guard_seat) for d in entry["defenses"]], guard_seat)
        if entry["defense_state"]:
            guard.load_public_state(read_tensors(self._folder / entry["defense_state"]))
        state = None
        if entry["states"]:
            path = entry["states"].get(str(round))
            if path is None:
                raise KeyError(f"no snapshot of {seat!r} after round {round}; there are {', '.join(entry['states'])}")
            state = {k: t.to(self.device) for k, t in read_tensors(self._folder / path).items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(secret.branch("initial weights").seed())
            replica: Replica = protocol.replica(facts, self.task, state, guard)
        if replica.module is not None:
            replica.module.to(self.device)
        replica.defended = replica.defended and entry["complete"]
        self.replicas_given.append((seat, replica))
        return replica

    @cached_property
    def _protocol(self) -> Any:
        spec = self._data["protocol"]
        params = import_target(spec["params_target"]).model_validate(spec["params"])
        return import_target(spec["target"])(params, CohortFacts.from_json(spec["cohort"]))

    def _granted(self, grant: str) -> None:
        if grant not in self.threat.knows:
            raise PermissionError(f"the threat model does not grant {grant!r}: add it to ThreatModel.knows")


def _defense(spec: Mapping[str, Any], seat: Seat) -> Any:
    params = import_target(spec["params_target"]).model_validate(spec["params"])
    return import_target(spec["target"])(params, seat)
