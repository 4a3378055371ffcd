"""What a defense is: base class, chain, guarantee. No defense lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy
from leakaudit.defenses.guarantee import Guarantee

if TYPE_CHECKING:
    from leakaudit.defenses.base import Ask, Chain, Defense, Local, Sends, Stepper

__all__ = ["Ask", "Chain", "Defense", "Guarantee", "Local", "Sends", "Stepper"]

__getattr__ = lazy(__name__, dict.fromkeys(("Ask", "Chain", "Defense", "Local", "Sends", "Stepper"), "base"))
