"""How a site's update is simulated: from the task, or where it carries a defense through its replica."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from leakaudit.attacks import View
from leakaudit.models import Tensors
from leakaudit_gradients.localrun import LocalRun, Simulate, simulation
from leakaudit_gradients.updates import Sent

__all__ = ["defended_sites", "simulation_of"]


def defended_sites(view: View) -> tuple[str, ...]:
    """Return the sites that carry a defense."""
    roles = {role for defense in view.defenses for role in defense.seats}
    return tuple(seat.id for seat in view.facts.seats if seat.role in roles)


def simulation_of(view: View, sent: Sent, run: LocalRun, x: Tensor, y: Tensor) -> tuple[Simulate, bool]:
    """Return the local run of the site that sent an update, and whether it may be mapped over targets.

    A defense may draw random numbers and look at values, which a map over targets forbids.

    Args:
        view: The adversary's view.
        sent: The update that is attacked; the run starts from the model that its site had received.
        run: The batches.
        x: One target's images, for shape and type.
        y: Its masks.
    """
    if sent.seat not in defended_sites(view):
        return simulation(view.task, sent.model, run, x, y), True
    replica = view.replica(sent.seat)
    assert replica.module is not None
    # What the site received, which is not what its replica was left with: it trained on.
    replica.module.load_state_dict(dict(sent.model), strict=False)
    # Batches of unequal size make no tensor; the replica goes through them one by one either way.
    order = cast(Tensor, run.order(view.device))

    def simulate(images: Tensor, masks: Tensor) -> Tensors:
        return replica.send(x=images, y=masks, order=order)

    return simulate, False
