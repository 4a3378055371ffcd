"""Which modalities a client holds, as a party in training must assume; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leakaudit.cohorts import MODALITIES
from leakaudit.facts import ProtocolFacts
from leakaudit.threats import NotApplicable

__all__ = ["applies", "shared_out"]


def shared_out(modalities: Sequence[str], clients: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Return the modalities shared out evenly among the clients, in order; None where they do not divide."""
    if not clients or len(modalities) % len(clients):
        return None
    each = len(modalities) // len(clients)
    return {client: tuple(modalities[i * each : (i + 1) * each]) for i, client in enumerate(clients)}


def applies(
    facts: ProtocolFacts, clients: Sequence[str] | None, levels: Sequence[str] | None,
    modalities: Mapping[str, Sequence[str]] | None,
) -> NotApplicable | None:  # fmt: skip
    """Return why an attack on a split's clients has no meaning for a protocol, or None where it has.

    Args:
        facts: The protocol.
        clients: Clients to attack; None for all.
        levels: Levels to attack; None for all.
        modalities: What the recipe says each client holds; None for an even share in channel order.
    """
    sent = [f for f in facts.flows if f.channel == "activation" and f.sender == "client" and f.receiver == "server"]
    back = [f for f in facts.flows if f.channel == "cut-gradient" and f.sender == "server" and f.receiver == "client"]
    if not sent or not back:
        return NotApplicable(reason=f"under {facts.protocol!r} no client trades activations for gradients with a server")
    there = [seat.id for seat in facts.seats_of("client")]
    unknown = [c for c in clients or () if c not in there]
    if unknown:
        return NotApplicable(reason=f"no client {', '.join(unknown)}; there are {', '.join(there)}")
    missing = [level for level in levels or () if level not in facts.levels]
    if missing:
        return NotApplicable(reason=f"no {', '.join(missing)} crosses the cut; what crosses is {', '.join(facts.levels)}")
    held = {seat.id: tuple(seat.modalities) for seat in facts.seats_of("client")}
    if modalities is None:
        every = [m for mine in held.values() for m in mine]
        in_order = every == sorted(every, key=lambda m: MODALITIES.index(m) if m in MODALITIES else len(MODALITIES))
        fits = in_order and shared_out(every, there) == held
    else:
        fits = {client: tuple(mine) for client, mine in modalities.items()} == held
    if not fits:
        stated = ", ".join(f"{client}: [{', '.join(mine)}]" for client, mine in held.items())
        return NotApplicable(
            reason="a party in training is not told which modalities each client holds, and they are not an even share in "
            f"channel order: state params.modalities as {{{stated}}}"
        )
    return None
