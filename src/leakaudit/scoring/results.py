"""What the verdicts are made from: the numbers of endpoints and pairings, without any array or engine object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leakaudit.scoring.controls import ControlResult
from leakaudit.scoring.epsilon import Claim
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.permutation import ShuffleTest
from leakaudit.scoring.policy import Family
from leakaudit.threats import Channel, Unit

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
        delta: Delta of claim and bound.
        unit: Unit of claim and bound.
        reason: What refuted it, or why it is untestable.
    """

    outcome: Claim
    claimed: float
    bound: float
    ceiling: float
    covers: str
    delta: float = 0.0
    unit: Unit = "patient"
    reason: str | None = None


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
        coarse: Whether a patient's value is a count of few yes-or-no answers (identity, canary bits), so that luck alone puts
            some patients above any limit; then only those above what evidence about others reaches are held against it.
        resolvable: Whether anchor - chance is at least .2.
        stable: Whether the spread over attack seeds stays within the limit.
        attack_seeds: Runs of the attack with different randomness behind the value.
        seed_spread: Largest minus smallest leakage of those runs; None where there was one.
        confounded: Whether the blind baseline tells members apart.
        positive: The same attack without defense; None where it was not run.
        planted: The same attack on a planted leak; None where it was not run.
        no_planted: Why it was not run although the positive control was missed.
        negative: The same attack on shuffled messages; None where it was not run.
        shuffled_worst: Largest patient value from shuffled messages; None where there is none.
        exchanged: Test of whether the evidence is about its own patients; None where nothing could be exchanged.
        adjusted: Its p-value by Benjamini-Hochberg over the run.
        patient_bar: Leakage that other patients' evidence reaches in a share .05 / n only; None where it has none.
        above_bar: Patients whose own evidence lies above that; None where nothing could be exchanged.
        blind: Membership: what the blind baseline reaches, and its interval where there is one; None for other kinds.
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
    coarse: bool = False
    resolvable: bool = True
    stable: bool = True
    attack_seeds: int = 1
    seed_spread: float | None = None
    confounded: bool = False
    positive: ControlResult | None = None
    planted: ControlResult | None = None
    no_planted: str | None = None
    negative: ControlResult | None = None
    shuffled_worst: float | None = None
    exchanged: ShuffleTest | None = None
    adjusted: float | None = None
    patient_bar: float | None = None
    above_bar: int | None = None
    blind: tuple[float, Interval | None] | None = None

    @property
    def worst(self) -> float | None:
        """Largest patient value, None where patients have none of their own."""
        return max(self.per_patient) if self.per_patient else None

    @property
    def controlled(self) -> bool:
        """Whether the positive control holds; a membership leak planted in the same training counts as one.

        One planted in a training of its own says that the attack works, not that it would have seen this training's leak.
        """
        planted = self.planted
        inside = self.kind == "membership" and planted is not None and planted.inside and planted.passed is True
        return inside or (self.positive is not None and self.positive.passed is True)


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

    @property
    def silent(self) -> bool:
        """Whether it can only refute, and did not: canaries alone, and no claim that they could not put to the test."""
        untestable = self.claim is not None and self.claim.outcome == "UNTESTABLE"
        return bool(self.endpoints) and all(e.kind == "epsilon" for e in self.endpoints) and not untestable
