"""A guarantee: a formal claim with its scope. Pure data, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from leakaudit.threats import Channel, Unit

__all__ = ["Guarantee"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """A formal claim: for what unit, about which releases, under which assumptions.

    It covers exactly what is in `releases` and anything computed from it alone. An epsilon for a shared model says
    nothing about activations.

    Attributes:
        mechanism: What was done, in words (for example `"DP-SGD, clip 1.0, noise 1.1"`).
        unit: Whose presence is hidden.
        neighbors: Neighboring relation, `"add-or-remove"` or `"replace"`.
        releases: (channel, seat) pairs that the claim covers.
        epsilon: Privacy loss bound, in [0, inf).
        delta: Failure probability, in [0, 1).
        accountant: Accountant and version.
        conversion: How its curve became (epsilon, delta).
        sampling: How batches were really drawn.
        sampling_assumed: How the accountant assumes that batches are drawn; empty where it assumes nothing of it.
        assumes: What must hold besides.
    """

    mechanism: str
    unit: Unit
    neighbors: Literal["add-or-remove", "replace"]
    releases: tuple[tuple[Channel, str], ...]
    epsilon: float
    delta: float
    accountant: str
    conversion: str
    sampling: str
    assumes: tuple[str, ...] = ()
    sampling_assumed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Guarantee:
        """Read `to_json`'s output."""
        fields = {**data, "releases": tuple((c, s) for c, s in data["releases"]), "assumes": tuple(data["assumes"])}
        return Guarantee(**fields)
