"""What the verdicts are made from: the numbers of endpoints and pairings, without any array or engine object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leakaudit.scoring.controls import ControlResult
from leakaudit.scoring.epsilon import Claim
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.policy import Family
from leakaudit.threats import Channel

__all__ = ["ClaimResult", "EndpointResult", "PairingResult", "Status", "Verdict"]

Status = Literal["PASS", "FAIL", "REVIEW", "ERROR", "N/A", "control"]
"""`"control"` is the status of an undefended pairing: a control, never a gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A word and why.

    Attributes:
        status: The word.
        reasons: Human sentences, the deciding ones first.
        covers: (channel, family) pairs that a valid adaptive attack covers (pairings only).
    """

    status: Status
    reasons: tuple[str, ...]
    covers: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResult:
    """A formal claim compared with the empirical bound of the same channel, unit, adjacency and delta.

    Attributes:
        outcome: REFUTED, NOT REFUTED or UNTESTABLE.
        claimed: Claimed epsilon.
        bound: Empirical lower bound.
        ceiling: The most that the audit could have shown.
        covers: Channel and unit, in words.
    """

    outcome: Claim
    claimed: float
    bound: float
    ceiling: float
    covers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointResult:
    """One endpoint of a pairing.

    Attributes:
        name: Its name, unique in the pairing, for example `"identity"`.
        channel: Channel of the wire that was attacked.
        family: Family of the attack.
        kind: Which limit holds: `"leakage"` (leakage_max, patient_max), `"membership"` or `"epsilon"` (membership_max).
        value: Leakage, None where the metric cannot resolve or no number exists.
        interval: Its two-sided 95 % interval over patients and repeats; None below 5 patients.
        fail_low: Lower bound at the level corrected over the endpoints of the defense; None where there is none.
        pass_high: Upper bound at the level corrected over the candidate defenses; None where there is none.
        per_patient: Patient values averaged over repeats; empty where a patient has none of its own (membership, epsilon).
        patients: Number of patients (membership: of the smaller side; epsilon: canaries).
        repeats: Training repeats.
        resolvable: Whether anchor - chance is at least .2.
        stable: Whether the spread over attack seeds stays within the limit.
        confounded: Whether the blind baseline tells members apart.
        positive: The same attack without defense; None where it was not run.
        planted: The same attack on a planted leak; None where it was not run.
        negative: The same attack on shuffled messages; None where it was not run.
    """

    name: str
    channel: Channel
    family: Family
    kind: Literal["leakage", "membership", "epsilon"] = "leakage"
    value: float | None
    interval: Interval | None
    fail_low: float | None
    pass_high: float | None
    per_patient: tuple[float, ...] = ()
    patients: int
    repeats: int
    resolvable: bool = True
    stable: bool = True
    confounded: bool = False
    positive: ControlResult | None = None
    planted: ControlResult | None = None
    negative: ControlResult | None = None

    @property
    def worst(self) -> float | None:
        """Largest patient value, None where patients have none of their own."""
        return max(self.per_patient) if self.per_patient else None

    @property
    def controlled(self) -> bool:
        """Whether the positive control holds; a membership leak planted in the same training counts as one."""
        planted = self.kind == "membership" and self.planted is not None and self.planted.passed
        return planted or (self.positive is not None and self.positive.passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingResult:
    """One pairing of protocol, defense and attack.

    Attributes:
        protocol: Label of the protocol.
        defense: Label of the defense.
        attack: Label of the attack.
        undefended: Whether the defense is none, so that the pairing is a control.
        not_applicable: Why the pairing has no meaning here, or None.
        error: What went wrong, or None.
        adaptive: Whether the engine's log shows that the attack used the replica of the defense.
        converged: Whether training and attack converged.
        endpoints: Its endpoints.
        claim: A formal claim that was tested, or None.
    """

    protocol: str
    defense: str
    attack: str
    undefended: bool = False
    not_applicable: str | None = None
    error: str | None = None
    adaptive: bool = False
    converged: bool = True
    endpoints: tuple[EndpointResult, ...] = ()
    claim: ClaimResult | None = None
