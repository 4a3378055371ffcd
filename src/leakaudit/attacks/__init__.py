"""What an attack is: base class, view, evidence. No attack lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakaudit._lazy import lazy

if TYPE_CHECKING:
    from leakaudit.attacks.base import Attack, Setup
    from leakaudit.attacks.contents import DefenseFacts, PlantedGradient, Shadow
    from leakaudit.attacks.evidence import Evidence, EvidenceError, Images, Masks, Scores, Target, Values
    from leakaudit.attacks.view import View

__all__ = [
    "Attack", "DefenseFacts", "Evidence", "EvidenceError", "Images", "Masks", "PlantedGradient", "Scores", "Setup", "Shadow",
    "Target", "Values", "View",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("Attack", "Setup"), "base"),
        **dict.fromkeys(("Evidence", "EvidenceError", "Images", "Masks", "Scores", "Target", "Values"), "evidence"),
        **dict.fromkeys(("DefenseFacts", "PlantedGradient", "Shadow"), "contents"),
        "View": "view",
    },
)
