"""The pairing part of `report.json`: threat, endpoints, controls, guarantee, images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from leakaudit.report.base import Count, Measured, Part, PatientId, Status
from leakaudit.report.images import check_png
from leakaudit.threats import Alterable, Auxiliary, Channel, Grant, Unit

__all__ = [
    "Claim", "Control", "Controls", "Cost", "Endpoint", "EndpointKind", "GuaranteeStatement", "ImageTriple", "Leakage", "Pairing",
    "PatientLeakage", "Quantiles", "RawValue", "ShuffleTest", "Strongest", "Threat", "Worst",
]  # fmt: skip

Family = Literal["reconstruction", "membership", "label", "property", "identity"]
EndpointKind = Literal["fidelity", "mask", "identity", "canary", "membership", "property", "epsilon"]
"""What recovery means: of an image, a mask, a patient's identity, planted bits, membership, a property, a privacy loss."""


class Threat(Part):
    """Who the adversary is and what it may do (`leakaudit.threats.ThreatModel`)."""

    plays: list[str] = Field(min_length=1, description="Roles that the adversary holds; several are a collusion.")
    alters: list[Alterable] = Field(default=[], description="What it changes; empty for a passive adversary.")
    channels: list[Channel] = Field(default=[], description="Channels it uses.")
    knows: list[Grant] = Field(default=[], description="What it is granted beyond its seats.")
    auxiliary: Auxiliary = Field(description="Which images it owns.")
    words: str = Field(description="The threat model in one plain sentence.")


class PatientLeakage(Part):
    """One patient's leakage under a pseudonym."""

    patient: PatientId = Field(description="Pseudonym, salted per run.")
    value: float = Field(description="(S_i - C_i) / mean(A - C), never clipped, averaged over repeats.")


class Worst(Part):
    """The worst patient and how far beyond it unseen patients may lie."""

    value: float = Field(description="Largest leakage of a patient.")
    bound: float = Field(ge=0, le=1, description="At most this share of such patients is worse: 1 - .05^(1/n).")
    shuffled: float | None = Field(default=None, description="Largest leakage of a patient from shuffled messages.")
    limit: float | None = Field(
        default=None, description="Leakage that other patients' evidence reaches in a share .05 / n only; null where not computed."
    )
    above: int | None = Field(
        default=None, ge=0, description="Patients whose own evidence lies above what evidence about others reaches."
    )


class Quantiles(Part):
    """How leakage spreads over patients, without saying which patient has which value."""

    low: float = Field(description="5 % quantile.")
    quarter: float = Field(description="25 % quantile.")
    median: float = Field(description="Median.")
    three_quarters: float = Field(description="75 % quantile.")
    high: float = Field(description="95 % quantile.")


class Leakage(Measured):
    """Evidence scored between chance (0) and full recovery (1)."""

    scope: str = Field(description="What the interval speaks of, for example 'this trained model'.")
    chance: float | None = Field(default=None, description="Mean score of the best guess without access.")
    chance_name: str | None = Field(default=None, description="Which guess that is.")
    anchor: float | None = Field(default=None, description="Mean score of full recovery.")
    worst: Worst | None = Field(default=None, description="The worst patient; null where leakage has no value by patient.")
    patients: Count = Field(description="Number of attacked patients, n.")
    quantiles: Quantiles | None = Field(default=None, description="Spread over patients; null below 10 patients.")
    above: Measured | None = Field(
        default=None, description="Share of patients above patient_max with its Clopper-Pearson interval; null for membership."
    )
    attack_seeds: int = Field(default=1, ge=1, description="Runs of the attack with different randomness behind the value.")
    seed_spread: float | None = Field(default=None, ge=0, description="Largest minus smallest leakage of those runs.")
    per_patient: list[PatientLeakage] = Field(default=[], description="Leakage by patient; empty for membership.")


class RawValue(Measured):
    """A displayed score in its own unit."""

    unit: str = Field(default="", description="Unit in words, empty for a pure number.")
    n: Count | None = Field(default=None, description="Number of patients behind it.")


class Control(Measured):
    """One control: what was expected of it and whether it held."""

    criterion: str = Field(description="The criterion in words.")
    passed: bool | None = Field(description="Whether it was met; null where it could not be decided.")
    n: Count | None = Field(default=None, description="Number of patients behind it.")


class ShuffleTest(Part):
    """Is the evidence about its own patient? Permutation test against evidence exchanged between patients."""

    p: float = Field(ge=0, le=1, description="P value of `the mean score is not above that of exchanged evidence`.")
    adjusted: float | None = Field(default=None, ge=0, le=1, description="P value by Benjamini-Hochberg over the run.")
    floor: float = Field(ge=0, le=1, description="Smallest p value that so many patients allow.")
    possible: bool = Field(description="Whether the floor is at most .05; it is not with 3 patients or fewer.")
    n: int = Field(ge=0, description="Number of patients behind it.")


class Controls(Part):
    """The controls of one pairing."""

    positive: Control | None = Field(default=None, description="The same attack on the undefended training.")
    negative: Control | None = Field(default=None, description="The attack on shuffled messages; must give nothing.")
    evidence_shuffle: ShuffleTest | None = Field(default=None, description="Permutation test over exchanged evidence.")
    planted: Control | None = Field(default=None, description="The attack on a leak put there on purpose.")
    ratio: float | None = Field(default=None, description="Upper bound defended / lower bound undefended (rho).")


class Endpoint(Part):
    """One score of one pairing that is held against a limit."""

    name: str = Field(description="Name, for example 'masked-ssim'.")
    kind: EndpointKind = Field(description="What recovery means here.")
    channel: Channel = Field(description="Channel that the evidence came from.")
    seat: str | None = Field(default=None, description="Seat whose patients are attacked; null for all seats.")
    level: str | None = Field(default=None, description="Feature level at the cut; null where nothing is cut.")
    round: int | None = Field(default=None, description="Round whose messages were attacked; null for the last ones.")
    status: Status = Field(description="Status of this endpoint alone.")
    limit: float | None = Field(default=None, description="Limit that the policy sets for this endpoint; null where none is.")
    leakage: Leakage = Field(description="The scored evidence.")
    controls: Controls = Field(default=Controls(), description="Its own controls.")
    blind: Measured | None = Field(
        default=None, description="Membership: 2 AUC - 1 of site and intensity statistics alone; null for other kinds."
    )
    confounded: bool = Field(default=False, description="Whether that blind baseline tells members apart.")
    raw: dict[str, RawValue] = Field(default={}, description="Scores in their own units, by name.")

    @model_validator(mode="after")
    def _membership_stays_aggregate(self) -> Endpoint:
        if self.kind == "membership" and self.leakage.per_patient:
            raise ValueError("membership by patient would disclose who was in the training set; report aggregates only")
        return self


class Strongest(Measured):
    """The worst endpoint of a pairing, or the strongest attack of a defense."""

    kind: EndpointKind | None = Field(default=None, description="What recovery means there.")

    endpoint: str | None = Field(default=None, description="Name of the endpoint.")
    attack: str | None = Field(default=None, description="Attack that produced it.")


class GuaranteeStatement(Part):
    """A formal claim with its scope (`leakaudit.defenses.guarantee.Guarantee`)."""

    mechanism: str = Field(description="What was done, in words.")
    unit: Unit = Field(description="Whose presence is hidden.")
    neighbors: Literal["add-or-remove", "replace"] = Field(description="Neighboring relation.")
    releases: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        description="[channel, seat] pairs that the claim covers; nothing else is covered."
    )
    epsilon: float = Field(ge=0, description="Bound on the privacy loss.")
    delta: float = Field(ge=0, lt=1, description="Failure probability.")
    accountant: str = Field(description="Accountant and version.")
    conversion: str = Field(description="How its curve became (epsilon, delta).")
    sampling: str = Field(description="How batches were really drawn.")
    sampling_assumed: str | None = Field(default=None, description="How the accountant assumes that batches are drawn.")
    assumes: list[str] = Field(default=[], description="What must hold besides.")


class Claim(Part):
    """A formal claim put to the test. An empirical bound can refute a claim and never pass one."""

    word: Literal["REFUTED", "NOT REFUTED", "UNTESTABLE"] = Field(description="Outcome.")
    epsilon: float = Field(ge=0, description="Claimed epsilon.")
    delta: float = Field(ge=0, lt=1, description="Delta of both claim and bound.")
    unit: Unit = Field(description="Unit of both claim and bound.")
    lower_bound: float | None = Field(default=None, ge=0, description="Empirical lower bound on epsilon, 95 % one-sided.")
    ceiling: float | None = Field(default=None, ge=0, description="Largest epsilon that this audit could have shown.")
    reason: str | None = Field(default=None, description="Why it is untestable, or what refuted it.")


class Cost(Part):
    """What the attack cost."""

    seconds: float | None = Field(default=None, ge=0, description="Wall-clock seconds; null where not measured.")
    peak_memory_mb: float | None = Field(default=None, ge=0, description="Peak memory, megabytes; null where not measured.")


class ImageTriple(Part):
    """Original, reconstruction and chance image of one patient: base64 grayscale PNG without any metadata."""

    patient: PatientId = Field(description="Pseudonym, salted per run.")
    seat: str | None = Field(default=None, description="Seat whose image it is.")
    level: str | None = Field(default=None, description="Feature level that was attacked.")
    round: int | None = Field(default=None, description="Round whose messages were attacked; null for the last ones.")
    original: str = Field(description="What the hospital holds.")
    reconstruction: str = Field(description="What the attack made of the messages.")
    chance: str | None = Field(default=None, description="The best guess without the messages.")
    score: float | None = Field(default=None, description="Score of this reconstruction.")
    score_name: str = Field(default="masked SSIM", description="Name of the score.")

    @field_validator("original", "reconstruction", "chance")
    @classmethod
    def _plain_png(cls, value: str | None) -> str | None:
        if value is not None:
            check_png(value)
        return value


class Pairing(Part):
    """Protocol x defense x attack, with its status and numbers."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense; 'none' where there is none.")
    attack: str = Field(description="Label of the attack.")
    family: Family = Field(description="What the attack is after.")
    learned: bool = Field(
        default=False, description="Updates: it applies a map learned on simulated updates instead of searching for each image."
    )
    status: Status = Field(description="Status of the pairing.")
    reasons: list[str] = Field(default=[], description="Why it has this status, one sentence each.")
    repeats: int = Field(ge=0, description="Number of training repeats.")
    threat: Threat = Field(description="The adversary.")
    adaptive: bool | None = Field(
        description="Whether the engine saw the attack use the replica of the defense; null where there is no defense."
    )
    isolation: str = Field(description="Where the attack ran, in words.")
    endpoints: list[Endpoint] = Field(default=[], description="Its endpoints; empty where it has no result.")
    controls: Controls = Field(default=Controls(), description="Controls of its worst endpoint; `negative` is the worst of all.")
    leakage: Strongest | None = Field(default=None, description="Its worst endpoint.")
    sabotage: float | None = Field(default=None, description="Dice under an attack that alters training; null if passive.")
    guarantee: GuaranteeStatement | None = Field(default=None, description="The defense's formal claim; of several, the first.")
    further_guarantees: list[GuaranteeStatement] = Field(
        default=[], description="Its other formal claims, about other units, channels or mechanisms. None stands for another."
    )
    claim: Claim | None = Field(default=None, description="That claim put to the test.")
    cost: Cost = Field(default=Cost(), description="Time and memory of the attack.")
    images: list[ImageTriple] = Field(default=[], description="Only for synthetic or public data.")
    sentences: list[str] = Field(default=[], description="Generated plain-language sentences about this pairing.")

    @property
    def guarantees(self) -> list[GuaranteeStatement]:
        """All formal claims."""
        return [] if self.guarantee is None else [self.guarantee, *self.further_guarantees]

    @model_validator(mode="after")
    def _bad_status_says_why(self) -> Pairing:
        if self.status in ("FAIL", "REVIEW", "ERROR", "N/A") and not self.reasons:
            raise ValueError(f"{self.protocol} / {self.defense} / {self.attack}: status {self.status} needs a reason")
        return self
