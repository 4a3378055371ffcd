"""Public facts about a cohort and a protocol: what a plan needs to know before any data is read or model built.

Pure data, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from leakaudit.threats import Channel

__all__ = ["Absence", "CohortFacts", "Flow", "ProtocolFacts", "SeatFacts"]


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortFacts:
    """A cohort from outside: sizes and shapes, no patient.

    Attributes:
        modalities: Canonical modality names in channel order, for example `("flair", "t1", "t1ce", "t2")`.
        shape: Spatial shape of one sample, (H, W) or (D, H, W) in voxels.
        members: Number of training patients.
        auxiliary: Number of patients the adversary may own.
        sites: Names of the sites, in order.
        records: Number of training samples (slices or volumes) of all members.
    """

    modalities: tuple[str, ...]
    shape: tuple[int, ...]
    members: int
    auxiliary: int
    sites: tuple[str, ...]
    records: int

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CohortFacts:
        """Read the facts from plain JSON."""
        return CohortFacts(**_tuples(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatFacts:
    """One party's place, as everybody may know it.

    Attributes:
        id: Unique name, for example `"client-0"`.
        role: What it is in the protocol: `"client"`, `"server"`, `"site"`, `"aggregator"`, `"trainer"`, ...
        modalities: Modalities of the images it holds; empty where it holds none.
        labels: Whether it holds the masks.
        site: The site whose patients it holds; None for all members.
        records: How many training samples it holds.
    """

    id: str
    role: str
    modalities: tuple[str, ...] = ()
    labels: bool = False
    site: str | None = None
    records: int = 0

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SeatFacts:
        """Read the facts from plain JSON."""
        return SeatFacts(**_tuples(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One kind of message and between which roles it goes.

    Attributes:
        channel: Kind of message.
        sender: Role that sends.
        receiver: Role that receives.
        names: Names of its tensors where they are fixed, for example `("level0", "level1")`.
        carries: Whose data the message depends on: patients one by one, a whole site, or nobody.
    """

    channel: Channel
    sender: str
    receiver: str
    names: tuple[str, ...] = ()
    carries: Literal["patients", "site", "nobody"] = "patients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Rounds without a seat, known before the training.

    Attributes:
        seat: Id of the seat.
        first: First round in which it is not asked, counted from 0.
        returns: First round in which it takes part again; None: never.
        silent: Round whose update it still sends, but about which it answers no question; None where it leaves before it is asked.
    """

    seat: str
    first: int
    returns: int | None = None
    silent: int | None = None

    def covers(self, round_: int) -> bool:
        """Return whether the seat is not asked in a round."""
        return self.first <= round_ and (self.returns is None or round_ < self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolFacts:
    """A protocol from outside: seats, flows, rounds and the properties of its network that plugins decide on.

    Attributes:
        protocol: Plugin name of the protocol.
        seats: Its places.
        flows: What crosses the wire.
        rounds: Number of rounds (epochs in split learning).
        spatial_dims: 2 or 3.
        normalization: Kind of normalization layer: `"instance"`, `"group"`, `"batch"` or `"none"`.
        levels: Names of the feature levels that cross the cut, shallowest first; empty where nothing is cut.
        absences: Which seats are away in which rounds, as far as that is known before the training.
        drawn: How many of the seats that send updates are asked in a round, drawn anew in each; None: all of them.
        extra: Further facts of a third party's protocol.
    """

    protocol: str
    seats: tuple[SeatFacts, ...]
    flows: tuple[Flow, ...]
    rounds: int
    spatial_dims: int
    normalization: str
    levels: tuple[str, ...] = ()
    absences: tuple[Absence, ...] = ()
    drawn: int | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles present, in seat order, each once."""
        return tuple(dict.fromkeys(seat.role for seat in self.seats))

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels on the wire, in flow order, each once."""
        return tuple(dict.fromkeys(flow.channel for flow in self.flows))

    def seat(self, seat_id: str) -> SeatFacts:
        """Return the seat named `seat_id`.

        Raises:
            KeyError: There is no such seat.
        """
        for seat in self.seats:
            if seat.id == seat_id:
                return seat
        raise KeyError(f"no seat {seat_id!r}; there are {', '.join(s.id for s in self.seats)}")

    def seats_of(self, *roles: str) -> tuple[SeatFacts, ...]:
        """Return the seats that have one of `roles`."""
        return tuple(seat for seat in self.seats if seat.role in roles)

    def away(self, round_: int) -> tuple[str, ...]:
        """Return the ids of the seats that are not asked in a round, in seat order."""
        gone = {absence.seat for absence in self.absences if absence.covers(round_)}
        return tuple(seat.id for seat in self.seats if seat.id in gone)

    def silent(self, round_: int) -> tuple[str, ...]:
        """Return the ids of the seats that send their update in a round and leave before a question, in seat order."""
        gone = {absence.seat for absence in self.absences if absence.silent == round_}
        return tuple(seat.id for seat in self.seats if seat.id in gone)

    def sees(self, plays: tuple[str, ...]) -> tuple[Channel, ...]:
        """Return the channels that an adversary's seats, each named by its role or its id, send or receive."""
        roles = {*plays, *(seat.role for seat in self.seats if seat.id in plays)}
        return tuple(dict.fromkeys(f.channel for f in self.flows if f.sender in roles or f.receiver in roles))

    def played(self, plays: tuple[str, ...]) -> tuple[str, ...]:
        """Return the ids of the seats an adversary holds: one per entry, a seat's id or the first seat of a role.

        Roles that no party has (`"outsider"`) hold no seat.
        """
        found: list[str] = []
        for entry in plays:
            found += ([s.id for s in self.seats if s.id == entry] or [s.id for s in self.seats if s.role == entry])[:1]
        return tuple(found)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ProtocolFacts:
        """Read the facts from plain JSON."""
        seats = tuple(SeatFacts.from_json(s) for s in data["seats"])
        flows = tuple(Flow(**_tuples(f)) for f in data["flows"])
        absences = tuple(Absence(**a) for a in data.get("absences", ()))
        return ProtocolFacts(**{**_tuples(data), "seats": seats, "flows": flows, "absences": absences})
