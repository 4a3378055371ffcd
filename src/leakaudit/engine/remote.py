"""Strict isolation: a seat that an attack plays lives in a clean child of its own and is driven through two named pipes.

The child is built from what that seat may know: the protocol, the task, its facts, its defenses, what it holds, and the
branches of randomness of that seat alone. Only messages go in, and only messages and states come out, as JSON and safetensors
bytes, never pickles.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from leakaudit.attacks.contents import load_cohort, save_cohort
from leakaudit.cohorts.cohort import Cohort
from leakaudit.defenses.guarantee import Guarantee
from leakaudit.engine.child import ChildError, CleanChild
from leakaudit.engine.places import Place, adversary_seat, build, honest_place, played_place
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Training
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models.canary import GradientCanary
from leakaudit.models.task import TaskSpec, Tensors, load_task
from leakaudit.protocols.base import Holdings
from leakaudit.protocols.schedule import Sampling
from leakaudit.wire.messages import Alarm, Message
from leakaudit.wire.recording import read_tensors, write_tensors
from leakaudit.wire.seats import Seat, Secret
from leakaudit.wire.wire import Party

__all__ = ["remote_place", "serve"]

_SIZES = struct.Struct(">QQ")
_PLAIN = tuple(f.name for f in fields(Message) if f.name != "tensors")
_IN, _OUT = "inbox.pipe", "outbox.pipe"
_POLL_MS = 200


class PartyError(RuntimeError):
    """A party that an attack plays failed, or its process ended.

    Attributes:
        public: The message without the words of code that is not leakaudit's.
    """

    def __init__(self, cause: ChildError | None) -> None:
        super().__init__(f"the party that the attack plays failed: {cause or 'its process ended'}")
        self.public = f"the party that the attack plays failed: {cause.public if cause else 'its process ended'}"


# The training's side ----------------------------------------------------------------------------------------------------


def remote_place(
    training: Training, facts: SeatFacts, attacker: Mapping[str, Any], owned: Cohort | None, secret: Secret, child: CleanChild,
    folder: Path,
) -> Place:  # fmt: skip
    """Return a seat that an attack takes, in the clean child.

    Args:
        training: The training.
        facts: The seat.
        attacker: Spec of the attack.
        owned: The adversary's auxiliary patients.
        secret: The adversary's branch for replicas.
        child: The clean child of this job.
        folder: An empty folder, all that the child will see.
    """
    held = training.holdings(facts)
    whole = {name: t for name in ("units", "images", "regions") if (t := getattr(held, name)) is not None}
    write_tensors(folder / "holdings.safetensors", whole)
    if owned is not None:
        save_cohort(folder / "auxiliary", owned)
    keys = {
        "seat": training.secret.branch("seat", facts.id), "shared": training.secret.branch("shared"),
        "adversary": training.secret.branch("adversary", facts.id), "replicas": secret,
        "streams": training.secret.branch("wire", facts.id),
    }  # fmt: skip
    known = [d for d in training.spec["defenses"] if facts.role in d["seats"] or "defense" in attacker["threat"]["knows"]]
    request = {
        "protocol": training.spec["protocol"], "cohort": training.spec["cohort_facts"], "task": as_json(training.task_spec),
        "seat": as_json(facts), "defenses": known, "tokens": held.tokens, "sampling": as_json(held.sampling),
        "canaries": {token: as_json(canary) for token, canary in held.canaries.items()},
        "attacker": attacker, "device": training.spec["device"], "precision": training.spec["precision"],
        "secrets": {name: branch.key.hex() for name, branch in keys.items()},
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request))
    link = _Link(child, folder)
    return Place(
        party=_Proxy(link), state=lambda: link.ask("state")[1], public=lambda: link.ask("public")[1],
        claims=lambda: tuple(map(Guarantee.from_json, link.ask("claims")[0]["claims"])),
        own=lambda: link.ask("own")[1], close=link.close,
    )  # fmt: skip


class _Proxy(Party):
    def __init__(self, link: _Link) -> None:
        self._link = link

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        header, tensors = _packed(inbox)
        answer, content = self._link.ask("reply", header, tensors)
        if "alarm" in answer:
            raise Alarm(**answer["alarm"])
        return _unpacked(answer, content)


class _Link:
    """Both pipes, and the thread that waits for the child's end."""

    def __init__(self, child: CleanChild, folder: Path) -> None:
        for name in (_IN, _OUT):
            os.mkfifo(folder / name)
        # Opened for reading and writing: so neither opening nor the child's death blocks.
        self._to = os.open(folder / _IN, os.O_RDWR | os.O_NONBLOCK)
        self._from = os.open(folder / _OUT, os.O_RDWR | os.O_NONBLOCK)
        self._error: ChildError | None = None
        self._thread = threading.Thread(target=self._run, args=(child, folder), daemon=True)
        self._thread.start()

    def _run(self, child: CleanChild, folder: Path) -> None:
        try:
            child.call("leakaudit.engine.remote:serve", folder)
        except ChildError as error:
            self._error = error

    def ask(self, what: str, header: Mapping[str, Any] | None = None, tensors: Tensors | None = None) -> tuple[Any, Tensors]:
        """Send a request and return the answer.

        Raises:
            PartyError: The party failed, or its process ended.
        """
        data = memoryview(_frame({"what": what, **(header or {})}, tensors or {}))
        while data:
            self._ready(self._to, select.POLLOUT)
            data = data[os.write(self._to, data) :]
        sizes = _SIZES.unpack(self._read(_SIZES.size))
        return json.loads(self._read(sizes[0])), safetensors.torch.load(self._read(sizes[1]))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._ready(self._from, select.POLLIN)
            data += os.read(self._from, min(size - len(data), 2**20))
        return bytes(data)

    def _ready(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        while True:
            alive = self._thread.is_alive()  # before looking: what it wrote before its end still counts
            if poll.poll(_POLL_MS):
                return
            if not alive:
                raise PartyError(self._error)

    def close(self) -> None:
        """Let the child end; what hangs is killed with the job."""
        if self._thread.is_alive():
            os.write(self._to, _frame({"what": "end"}, {}))
            self._thread.join(timeout=10)
        os.close(self._to)
        os.close(self._from)


# The child's side -------------------------------------------------------------------------------------------------------


def serve(folder: Path) -> dict[str, Any]:
    """Be the party that an attack plays, until the training ends."""
    request = json.loads((folder / "request.json").read_text())
    place = _placed(request, folder)
    torch.manual_seed(Secret(bytes.fromhex(request["secrets"]["streams"])).branch("global").seed())
    with (folder / _IN).open("rb") as inbox, (folder / _OUT).open("wb") as outbox:
        while True:
            sizes = _SIZES.unpack(inbox.read(_SIZES.size))
            header, tensors = json.loads(inbox.read(sizes[0])), safetensors.torch.load(inbox.read(sizes[1]))
            if header["what"] == "end":
                return {}
            outbox.write(_frame(*_answer(place, header, tensors, torch.device(request["device"]))))
            outbox.flush()


def _answer(place: Place, header: Mapping[str, Any], tensors: Tensors, device: torch.device) -> tuple[dict[str, Any], Tensors]:
    if header["what"] == "claims":
        return {"claims": [claim.to_json() for claim in place.claims()]}, {}
    if header["what"] == "reply":
        try:
            return _packed(place.party.reply(_unpacked(header, {k: t.to(device) for k, t in tensors.items()})))
        except Alarm as alarm:
            return {"alarm": {"detector": alarm.detector, "reason": str(alarm), "score": alarm.score}}, {}
    asked: dict[str, Callable[[], Tensors]] = {"state": place.state, "public": place.public, "own": place.own}
    return {}, asked[header["what"]]()


def _placed(request: Mapping[str, Any], folder: Path) -> Place:
    """Build the seat as `Training` and the train cell build it in the training's own process."""
    secrets = {name: Secret(bytes.fromhex(key)) for name, key in request["secrets"].items()}
    device, facts, attacker = torch.device(request["device"]), SeatFacts.from_json(request["seat"]), request["attacker"]
    protocol = build(request["protocol"], CohortFacts.from_json(request["cohort"]))
    task = load_task(TaskSpec(**request["task"]))
    tensors = {k: t.to(device) for k, t in read_tensors(folder / "holdings.safetensors").items()}
    canaries = {token: GradientCanary(**canary) for token, canary in request["canaries"].items()}
    holds = Holdings(tokens=tuple(request["tokens"]), sampling=Sampling(**request["sampling"]), canaries=canaries, **tensors)
    seat = Seat(
        facts, secrets["seat"], shared=secrets["shared"], device=device, precision=request["precision"],
        protocol=protocol.facts, task=task,
    )  # fmt: skip
    adversary = adversary_seat(
        protocol, task, facts, attacker, request["defenses"], secret=secrets["adversary"], lent=secrets["replicas"],
        device=device, precision=request["precision"],
        auxiliary=load_cohort(folder / "auxiliary") if (folder / "auxiliary").exists() else None,
    )  # fmt: skip
    return played_place(honest_place(protocol, task, seat, request["defenses"], holds), attacker, adversary, secrets["streams"])


# Both sides -------------------------------------------------------------------------------------------------------------


def _packed(messages: Sequence[Message]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    tensors = {f"{i}.{name}": t for i, m in enumerate(messages) for name, t in m.tensors.items()}
    return {"messages": [{name: getattr(m, name) for name in _PLAIN} for m in messages]}, tensors


def _unpacked(header: Mapping[str, Any], tensors: Tensors) -> list[Message]:
    inside: list[dict[str, torch.Tensor]] = [{} for _ in header["messages"]]
    for key, tensor in tensors.items():
        place, _, name = key.partition(".")
        inside[int(place)][name] = tensor
    plain = [{**m, "samples": tuple(m["samples"])} for m in header["messages"]]
    return [Message(**m, tensors=content) for m, content in zip(plain, inside, strict=True)]


def _frame(header: Mapping[str, Any], tensors: Tensors) -> bytes:
    text = json.dumps(header).encode()
    content = safetensors.torch.save({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()})
    return _SIZES.pack(len(text), len(content)) + text + content
