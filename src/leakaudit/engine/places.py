"""A place in a training: who answers at one seat, honest or played by an attack, and what is read from it in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from leakaudit.attacks.base import Attack
from leakaudit.cohorts.cohort import Cohort
from leakaudit.defenses.chain import Chain
from leakaudit.defenses.guarantee import Guarantee
from leakaudit.facts import SeatFacts
from leakaudit.models.task import Task, Tensors
from leakaudit.plugins.targets import import_target
from leakaudit.protocols.base import Guard, Holdings, Protocol
from leakaudit.wire.messages import Message
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat, Secret
from leakaudit.wire.wire import Party

__all__ = ["Place", "adversary_seat", "build", "guard_of", "honest_place", "played_place"]


def build(spec: Mapping[str, Any], *args: Any) -> Any:
    """Rebuild a plugin object from its spec: `target(params, *args)`."""
    params = import_target(spec["params_target"]).model_validate(spec["params"])
    return import_target(spec["target"])(params, *args)


@dataclass(frozen=True, kw_only=True)
class Place:
    """One seat of a training.

    Attributes:
        party: Who answers.
        state: Gives the honest party's state: for snapshots, the digest and the deployed model.
        public: Gives what the seat's defenses learned.
        claims: Gives their formal claims.
        own: Gives the state of the party an attack played; empty where none did.
        close: Ends what the place needs to run.
    """

    party: Party
    state: Callable[[], Tensors]
    public: Callable[[], Tensors]
    claims: Callable[[], tuple[Guarantee, ...]]
    own: Callable[[], Tensors] = dict
    close: Callable[[], None] = lambda: None


def guard_of(defenses: Sequence[Mapping[str, Any]], seat: Seat) -> Guard:
    """Return those of `defenses` that a seat carries, as one."""
    return Chain([build(d, seat) for d in defenses if seat.role in d["seats"]], seat)


def honest_place(protocol: Protocol[Any], task: Task, seat: Seat, defenses: Sequence[Mapping[str, Any]], holds: Holdings) -> Place:
    """Return a seat as its protocol has it."""
    guard = guard_of(defenses, seat)
    party = protocol.party(seat, task, guard, holds)
    return Place(party=party, state=party.state, public=guard.public_state, claims=guard.guarantees)


def played_place(honest: Place, attacker: Mapping[str, Any], adversary: Seat, streams: Secret) -> Place:
    """Return a seat that an attack takes.

    Args:
        honest: The seat as it would be without the attack.
        attacker: Spec of the attack.
        adversary: The attack's seat, with randomness of its own.
        streams: The seat's branch of the wire's randomness, from which its global stream is drawn.

    Raises:
        TypeError: `play` did not return a party.
    """
    apart = _Apart(honest.party, streams.branch("global").seed(), adversary.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.branch("adversary").seed())
        attack = build(attacker, adversary)
        if not isinstance(attack, Attack):
            raise TypeError(f"{attacker['target']} is not a leakaudit.attacks.Attack")
        party = attack.play(apart)
    if not isinstance(party, Party):
        raise TypeError(f"play() returned a {type(party).__name__}; expected a leakaudit.wire.Party")
    return replace(honest, party=party, own=party.state)


class _Apart(Party):
    """The honest party as an attack holds it, on a global random stream of its own.

    So what a rider draws from the global generator does not shift the honest party's dropout or noise.
    """

    def __init__(self, honest: Party, seed: int, device: torch.device) -> None:
        self._honest, self._device = honest, device
        with self._forked():
            torch.manual_seed(seed)
            self._stream = self._now()

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        with self._forked():
            torch.set_rng_state(self._stream[0])
            if self._cuda:
                torch.cuda.set_rng_state(self._stream[1], self._device)
            try:
                # A copy: an honest party makes leaves of what it is sent, and a rider's backward pass must not reach them.
                return self._honest.reply([m.carrying({k: t.detach().clone() for k, t in m.tensors.items()}) for m in inbox])
            finally:
                self._stream = self._now()

    def state(self) -> Tensors:
        return self._honest.state()

    @property
    def _cuda(self) -> bool:
        return self._device.type == "cuda"

    def _forked(self) -> Any:
        return torch.random.fork_rng(devices=[torch.cuda.current_device()] if self._cuda else [])

    def _now(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(self._device)] if self._cuda else [])]


def adversary_seat(
    protocol: Protocol[Any], task: Task, facts: SeatFacts, attacker: Mapping[str, Any], defenses: Sequence[Mapping[str, Any]], *,
    secret: Secret, lent: Secret, device: torch.device, precision: str, auxiliary: Cohort | None,
) -> Seat:  # fmt: skip
    """Return the seat of an adversary in training, with what its threat model grants.

    Args:
        protocol: The protocol.
        task: The task.
        facts: The place that the adversary takes.
        attacker: Spec of the attack.
        defenses: Specs of the defenses it may know of.
        secret: Its randomness.
        lent: The branch that replicas draw from.
        device: Where it computes.
        precision: Arithmetic of forward passes.
        auxiliary: Patients it owns.
    """
    return Seat(
        facts, secret, device=device, precision=precision, auxiliary=auxiliary, protocol=protocol.facts,
        task=task if "architecture" in attacker["threat"]["knows"] else None,
        replicas=_replicas_for(protocol, task, attacker, defenses, lent, device),
    )  # fmt: skip


def _replicas_for(
    protocol: Protocol[Any], task: Task, attacker: Mapping[str, Any], defenses: Sequence[Mapping[str, Any]], secret: Secret,
    device: torch.device,
) -> Callable[[str, int], Replica] | None:  # fmt: skip
    """Return what an adversary's seat gives as replicas while training goes on: fresh networks of known architecture.

    None where the threat model does not grant the architecture. Defenses are part of a replica where `"defense"` is granted;
    weights never are, because nobody has finished training.
    """
    knows = attacker["threat"]["knows"]
    if "architecture" not in knows:
        return None
    given: list[str] = []

    def replica(seat_id: str, round_: int) -> Replica:
        if round_ != -1:
            raise KeyError(f"there is no snapshot of {seat_id!r} after round {round_}: training is not over")
        branch = secret.branch("training-replica", seat_id, str(len(given)))
        given.append(seat_id)
        seat = Seat(protocol.facts.seat(seat_id), branch, device=device, protocol=protocol.facts, task=task)
        guard = guard_of(defenses if "defense" in knows else [], seat)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(branch.branch("initial weights").seed())
            made = protocol.replica(seat.facts, task, None, guard)
        if made.module is not None:
            made.module.to(device)
        made.defended = made.defended and ("defense" in knows or not any(seat.role in d["seats"] for d in defenses))
        return made

    return replica
