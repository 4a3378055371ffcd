"""Where the adversary stands and which rounds it attacks: what the params of all inversion attacks share. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from leakaudit.facts import Flow, ProtocolFacts, SeatFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Channel, NotApplicable, Tap

__all__ = ["InversionParams", "Names", "Stage", "Surface"]

Names = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass of an attack over the training.

    Attributes:
        suffix: Ends the names of its evidence: `"@3"` for round 3, empty for the last observations.
        round: Round whose messages are attacked; None for the last observations of each sample.
        rounds: Rounds whose weights stand behind the observations of a sample, the last first.
    """

    suffix: str
    round: int | None
    rounds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """What of a protocol is attacked.

    Attributes:
        clients: Attacked clients.
        levels: Levels to tap; None where the protocol does not name them.
        plays: Roles or seats that the adversary holds.
    """

    clients: tuple[SeatFacts, ...]
    levels: tuple[str, ...] | None
    plays: tuple[str, ...]


class InversionParams(AttackParams):
    """What every attack on what crosses the cut has: whom, which levels, and when."""

    channel: ClassVar[Channel] = "activation"
    """What is attacked."""

    clients: Names | None = Field(None, description="Seats to attack, for example [client-0]; default every image client.")
    levels: Literal["each", "joint", "each-and-joint"] | Names = Field(
        "each",
        description="`each`: one reconstruction per level; `joint`: one from all levels together; `each-and-joint`: both; "
        "or the names of the levels to attack one by one, for example [level0].",
    )
    rounds: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="Rounds to attack one by one, each with the weights of that round, for leakage as training goes: evidence "
        "is named like `client-0/level0@3`. Round 0 is the first, -1 the last. Default only the last observations.",
    )

    @property
    def colluder(self) -> str | None:
        """The client that colludes with the server: its id, `""` for the first one, or None."""
        return None

    @property
    def watcher(self) -> str | None:
        """The client that is the adversary, or None where it is the server."""
        return None

    @property
    def looks_back(self) -> int:
        """Observations of each sample that are taken together."""
        return 1

    def surface(self, facts: ProtocolFacts) -> Surface | NotApplicable:
        """Return what is attacked, or why these parameters have no meaning under this protocol."""
        images = facts.seats_of("client")
        plays = self._plays(facts)
        if isinstance(plays, NotApplicable):
            return plays
        flows = self._flows(facts)
        if not flows:
            return self._blind(facts)
        known = [seat.id for seat in images]
        unknown = [c for c in self.clients or () if c not in known]
        if unknown:
            return NotApplicable(reason=f"no client {', '.join(unknown)}; there are {', '.join(known)}")
        attacked = tuple(seat for seat in images if seat.id in (self.clients or known) and seat.id not in plays)
        if not attacked:
            return NotApplicable(reason=f"no client is left to attack: {', '.join(plays)} belongs to the adversary")
        sent = tuple(dict.fromkeys(name for flow in flows for name in flow.names)) or facts.levels
        wanted = self.wanted_levels(sent)
        missing = [name for name in wanted if name not in sent]
        if missing:
            return NotApplicable(reason=f"no {', '.join(missing)} crosses the cut; what crosses is {', '.join(sent)}")
        late = [r for r in self.rounds or () if not -facts.rounds <= r < facts.rounds]
        if late:
            return NotApplicable(reason=f"there is no round {late[0]}: training has rounds 0 to {facts.rounds - 1}")
        return Surface(clients=attacked, levels=wanted or None, plays=plays)

    def _plays(self, facts: ProtocolFacts) -> tuple[str, ...] | NotApplicable:
        clients = [seat.id for seat in facts.seats_of("client")]
        named = self.watcher if self.watcher is not None else self.colluder
        if named is None or not clients:
            return ("server",)
        seat = named or clients[0]
        if seat not in clients:
            return NotApplicable(reason=f"no client {seat}; there are {', '.join(clients)}")
        return (seat,) if self.watcher is not None else ("server", seat)

    def _flows(self, facts: ProtocolFacts) -> list[Flow]:
        """Return what the adversary sees of the attacked channel."""
        receiver = "client" if self.watcher else "server"
        return [f for f in facts.flows if (f.channel, f.sender, f.receiver) == (self.channel, "client", receiver)]

    def _blind(self, facts: ProtocolFacts) -> NotApplicable:
        if not self.watcher or not any(f.channel == "activation" for f in facts.flows):
            return NotApplicable(reason=f"protocol {facts.protocol!r} sends no activations from a client to a server")
        gets = ", ".join(dict.fromkeys(f.channel for f in facts.flows if f.receiver == "client")) or "nothing"
        return NotApplicable(
            reason=f"{self.watcher} receives {gets} and no activation of another client, which is what this attack inverts"
        )

    def wanted_levels(self, sent: tuple[str, ...]) -> tuple[str, ...]:
        """Return the levels to attack of those `sent`."""
        return sent if isinstance(self.levels, str) else self.levels

    def endpoints(self, sent: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return for each reconstruction, by the name of its level or `"joint"`, the levels it is made from of those `sent`."""
        wanted = tuple(name for name in self.wanted_levels(sent) if name in sent)
        each = {} if self.levels == "joint" else {name: (name,) for name in wanted}
        joint = {"joint": wanted} if self.levels in ("joint", "each-and-joint") and wanted else {}
        return each | joint

    def stages(self, rounds: int) -> tuple[Stage, ...]:
        """Return the passes of an attack on a training of that many rounds."""
        if self.rounds is None:
            back = min(self.looks_back, rounds)
            return (Stage(suffix="", round=None, rounds=tuple(rounds - 1 - i for i in range(back))),)
        chosen = sorted({r % rounds for r in self.rounds})
        return tuple(Stage(suffix=f"@{r}", round=r, rounds=(r,)) for r in chosen)

    def taps(self, facts: ProtocolFacts, levels: tuple[str, ...] | None, *, weights: bool = True) -> tuple[Tap, ...]:
        """Return what to record; with the messages of a round come the weights after it.

        Args:
            facts: The protocol.
            levels: Levels to tap, None for all.
            weights: Also ask for the weights before each round, between which and those after it the messages were sent.
        """
        stages = self.stages(facts.rounds)
        if self.rounds is None:
            wanted = tuple(range(-1, -len(stages[0].rounds) - 1, -1))
        else:
            wanted = tuple(stage.rounds[0] for stage in stages)
        messages = Tap(channel=self.channel, rounds=wanted, names=levels)
        observed = {r for stage in stages for r in stage.rounds}
        before = tuple(sorted({r - 1 for r in observed if r > 0} - observed))
        # A tap of no step records no message, and still brings the weights after its rounds.
        return (messages, Tap(channel=self.channel, rounds=before, steps=(), names=levels)) if weights and before else (messages,)
