"""The data model of `report.json`. Whatever the HTML shows comes from here alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.report.base import Ci, Measured, Part, Status
from leakaudit.report.pairings import GuaranteeStatement, Pairing, Strongest
from leakaudit.threats import Channel

__all__ = [
    "SCHEMA_VERSION", "Alarm", "Baseline", "CellCounts", "CellError", "Comparison", "Coverage", "DataFacts", "NotAttacked",
    "Patients", "PluginUsed", "Policy", "Provenance", "RecipeFacts", "Report", "Section", "SectionTable", "Sentences",
    "Threshold", "Traffic", "Utility", "Verdict",
]  # fmt: skip

SCHEMA_VERSION = "1.0"

Word = Literal["PASS", "FAIL", "REVIEW", "ERROR"]


class RecipeFacts(Part):
    """Which recipe was run."""

    name: str = Field(description="Name of the recipe.")
    sha256: str = Field(description="Digest of the resolved recipe.")


class PluginUsed(Part):
    """One plugin that took part."""

    name: str = Field(description="Name of the plugin.")
    kind: str = Field(description="attack, defense, protocol, dataset, executor or section.")
    distribution: str = Field(description="Package that it comes from.")
    version: str = Field(description="Version of that package.")
    ours: bool = Field(default=False, description="Whether the package is maintained with leakaudit.")


class Provenance(Part):
    """With what the audit was made."""

    python: str = Field(description="Python version.")
    torch: str | None = Field(default=None, description="torch version.")
    device: str = Field(description="Device class and name.")
    threads: int | None = Field(default=None, ge=1, description="Compute threads.")
    packages: dict[str, str] = Field(default={}, description="Version by package name.")
    plugins: list[PluginUsed] = Field(default=[], description="Plugins that took part.")
    notes: dict[str, str] = Field(default={}, description="Further facts, for example determinism.")


class Patients(Part):
    """Numbers of patients; every split is by patient."""

    members: int = Field(ge=0, description="Trained on.")
    validation: int = Field(ge=0, description="Used for choices, never for results.")
    test: int = Field(ge=0, description="Used for utility.")
    non_members: int = Field(ge=0, description="Never trained on, for membership.")
    auxiliary: int = Field(ge=0, description="May be owned by the adversary.")


class DataFacts(Part):
    """The data that was audited."""

    dataset: str = Field(description="Name of the dataset; never a path.")
    synthetic: bool = Field(description="Whether no real patient is in it.")
    public: bool = Field(default=False, description="Whether images of it may be shown to anyone.")
    license: str | None = Field(default=None, description="License or terms.")
    modalities: list[str] = Field(default=[], description="Image modalities.")
    shape: list[int] = Field(default=[], description="Shape of one sample in voxels.")
    sites: int | None = Field(default=None, ge=1, description="Number of sites.")
    patients: Patients = Field(description="Numbers of patients by role.")
    sha256: str | None = Field(default=None, description="Digest of the prepared cohort.")


class Verdict(Part):
    """The answer."""

    status: Word = Field(description="PASS, FAIL, REVIEW or ERROR.")
    exit_code: int = Field(description="Exit code that belongs to the status: 0 PASS, 3 FAIL, otherwise 4.")
    reasons: list[str] = Field(default=[], description="Why, most important first.")


class Threshold(Part):
    """One threshold: a convention of its owner, not a legal number."""

    name: str = Field(description="Name, for example 'leakage_max'.")
    value: float = Field(description="The number.")
    owner: str = Field(description="Who set it.")
    reason: str = Field(description="Why.")


class Policy(Part):
    """What counts as acceptable, fixed before the run."""

    thresholds: list[Threshold] = Field(default=[], description="The thresholds.")
    required: dict[str, list[str]] = Field(default={}, description="Attack families that must be tried, by channel.")
    candidates: list[str] = Field(default=[], description="Defenses that are candidates for release.")
    require: Literal["any", "all"] = Field(default="any", description="How many candidates must be acceptable.")


class NotAttacked(Part):
    """Something that crosses the wire and was not attacked."""

    protocol: str = Field(description="Label of the protocol.")
    channel: Channel = Field(description="The channel.")
    family: str | None = Field(default=None, description="Attack family that is missing; null for all.")
    defenses: list[str] = Field(default=[], description="Defenses it is missing for; empty for all.")
    reason: str = Field(description="Why.")


class Utility(Part):
    """What the collaboration is worth: Dice on test patients."""

    dice: dict[str, float | None] = Field(description="Mean Dice by region (WT, TC, ET) and 'mean', 0 to 1.")
    hd95: dict[str, float | None] = Field(default={}, description="95 % Hausdorff distance by region, see `hd95_unit`.")
    hd95_unit: str = Field(default="mm", description="Unit of hd95: mm or voxels.")
    ci: Ci | None = Field(default=None, description="95 % interval of the mean Dice.")
    difference: Measured | None = Field(default=None, description="Mean Dice minus undefended, paired; null if undefended.")
    n: int = Field(ge=0, description="Number of test patients.")
    status: Status = Field(description="Utility's own word; N/A where the defense has no meaning in the protocol.")
    reason: str | None = Field(default=None, description="Why a number is missing, or why the status is not PASS.")


class Baseline(Part):
    """One training: protocol x defense, with what it is worth and what it costs."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense; 'none' where there is none.")
    status: Status = Field(description="Privacy verdict of the defense over its pairings.")
    reasons: list[str] = Field(default=[], description="Why.")
    utility: Utility = Field(description="Dice on test patients.")
    strongest: Strongest | None = Field(
        default=None, description="Leakage of the attack that leaks most, chosen on the attacked patients, so that it errs upward."
    )
    not_dominated: bool | None = Field(default=None, description="In the band that nothing significantly dominates.")
    guarantee: GuaranteeStatement | None = Field(default=None, description="Its formal claim.")
    traffic_bytes: int | None = Field(default=None, ge=0, description="Bytes that crossed the wire.")
    seconds: float | None = Field(default=None, ge=0, description="Training time, seconds.")


class Comparison(Part):
    """Two defenses of one protocol, compared by the rule of evidence."""

    protocol: str = Field(description="Label of the protocol.")
    a: str = Field(description="One defense.")
    b: str = Field(description="The other defense.")
    leakage: Measured = Field(description="Leakage of a minus leakage of b.")
    dice: Measured = Field(description="Mean Dice of a minus mean Dice of b.")
    outcome: Literal["a beats b", "b beats a", "not distinguishable"] = Field(description="What the rule says.")


class Coverage(Part):
    """Whether one attack family was tried on one channel."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense.")
    channel: Channel = Field(description="The channel.")
    family: str = Field(description="The attack family.")
    state: Literal["tested", "not adaptive", "failed", "not tested", "not applicable"] = Field(description="What happened.")
    required: bool = Field(default=False, description="Whether the policy requires it.")
    attacks: list[str] = Field(default=[], description="Attacks that were tried.")
    reason: str | None = Field(default=None, description="Why it was not tested.")


class Traffic(Part):
    """What crossed the wire in one channel."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(default="none", description="Label of the defense.")
    channel: Channel = Field(description="The channel.")
    sender: str = Field(description="Role that sends.")
    receiver: str = Field(description="Role that receives.")
    messages: int = Field(ge=0, description="Number of messages.")
    bytes: int = Field(ge=0, description="Bytes.")


class Alarm(Part):
    """A defense stopped the training because it noticed something."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Defense that raised it.")
    attack: str | None = Field(default=None, description="Attack during which it was raised; null for an honest training.")
    seat: str | None = Field(default=None, description="Seat that raised it.")
    round: int | None = Field(default=None, ge=0, description="Round.")
    text: str = Field(description="What was noticed, sanitized.")


class CellCounts(Part):
    """How the work was done."""

    computed: int = Field(ge=0, description="Cells computed in this run.")
    cached: int = Field(ge=0, description="Cells taken from the run store.")
    failed: int = Field(ge=0, description="Cells that failed.")
    seconds: float = Field(ge=0, description="Computing time, seconds.")


class CellError(Part):
    """One cell that failed."""

    cell: str = Field(description="What it should have computed, in the recipe's labels.")
    kind: str = Field(description="prepare, train, shadows, attack, score or section.")
    reason: str = Field(description="What happened, sanitized.")


class SectionTable(Part):
    """A table of a further section."""

    caption: str = Field(description="What it shows.")
    columns: list[str] = Field(description="Column heads.")
    rows: list[list[str]] = Field(description="Rows as text.")

    @model_validator(mode="after")
    def _rectangular(self) -> SectionTable:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.caption!r}: every row needs {len(self.columns)} cells, one for each column")
        return self


class Section(Part):
    """A further section that a plugin wrote; a section that failed says so."""

    title: str = Field(description="Heading.")
    plugin: str = Field(description="Plugin that wrote it.")
    failed: str | None = Field(default=None, description="Why it failed, sanitized; null where it did not.")
    paragraphs: list[str] = Field(default=[], description="Plain text.")
    tables: list[SectionTable] = Field(default=[], description="Tables.")


class Sentences(Part):
    """Generated plain-language sentences of the whole run."""

    verdict: str = Field(description="The verdict in one sentence.")
    not_attacked: list[str] = Field(default=[], description="What was not attacked.")
    not_shown: list[str] = Field(default=[], description="What this report does not show.")
    for_release: list[str] = Field(default=[], description="Evidence for release.")
    against_release: list[str] = Field(default=[], description="Evidence against release.")


class Report(Part):
    """The whole of `report.json`."""

    schema_version: Literal["1.0"] = Field(description="Version of this schema.")
    leakaudit_version: str = Field(description="Version of leakaudit.")
    created: str = Field(description="When the report was made, ISO 8601 with time zone.")
    recipe: RecipeFacts = Field(description="Which recipe was run.")
    provenance: Provenance = Field(description="With what the audit was made.")
    data: DataFacts = Field(description="The data that was audited.")
    verdict: Verdict = Field(description="The answer.")
    policy: Policy = Field(description="What counts as acceptable.")
    limitations: list[str] = Field(default=[], description="What weakens the evidence of this run.")
    not_attacked: list[NotAttacked] = Field(default=[], description="What was not attacked.")
    baselines: list[Baseline] = Field(default=[], description="Trainings: protocol x defense.")
    pairings: list[Pairing] = Field(default=[], description="Protocol x defense x attack.")
    comparisons: list[Comparison] = Field(default=[], description="Defenses compared two by two.")
    coverage: list[Coverage] = Field(default=[], description="Channels x attack families.")
    traffic: list[Traffic] = Field(default=[], description="What crossed the wire.")
    alarms: list[Alarm] = Field(default=[], description="Alarms that defenses raised.")
    cells: CellCounts = Field(description="How the work was done.")
    errors: list[CellError] = Field(default=[], description="Cells that failed.")
    sections: list[Section] = Field(default=[], description="Further sections by plugins.")
    contains_patient_images: bool = Field(default=False, description="Real patients' images were asked for by a flag.")
    sentences: Sentences | None = Field(default=None, description="Generated sentences; see `with_sentences`.")

    @model_validator(mode="after")
    def _images_need_leave(self) -> Report:
        allowed = self.data.synthetic or self.data.public or self.contains_patient_images
        if not allowed and any(pairing.images for pairing in self.pairings):
            raise ValueError("images of patients need synthetic or public data (or contains_patient_images)")
        return self

    @model_validator(mode="after")
    def _pairings_are_unique(self) -> Report:
        seen: set[tuple[str, str, str]] = set()
        for pairing in self.pairings:
            key = (pairing.protocol, pairing.defense, pairing.attack)
            if key in seen:
                raise ValueError(f"pairing {' / '.join(key)} occurs twice")
            seen.add(key)
        return self

    def threshold(self, name: str) -> float | None:
        """Return the policy's threshold `name`, None where the policy has none."""
        return next((t.value for t in self.policy.thresholds if t.name == name), None)
