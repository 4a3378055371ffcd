"""What a defense is: base class, chain, guarantee. No defense lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy
from leakaudit.defenses.guarantee import Guarantee

if TYPE_CHECKING:
    from leakaudit.defenses.base import Ask, Defense, Local, Sends, Stepper
    from leakaudit.defenses.chain import Chain

__all__ = ["Ask", "Chain", "Defense", "Guarantee", "Local", "Sends", "Stepper"]

__getattr__ = lazy(__name__, {**dict.fromkeys(("Ask", "Defense", "Local", "Sends", "Stepper"), "base"), "Chain": "chain"})
