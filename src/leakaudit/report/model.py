"""The data model of `report.json`. Whatever the HTML shows comes from here alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.report.base import Part
from leakaudit.report.facts import (
    Alarm,
    CellCounts,
    CellError,
    DataFacts,
    Detection,
    Patients,
    PluginUsed,
    Provenance,
    RecipeFacts,
    SeatHolding,
    Traffic,
)
from leakaudit.report.pairings import Pairing
from leakaudit.report.protocols import ProtocolSweep, SweepSetting, TrainedProtocol
from leakaudit.report.trainings import (
    Baseline,
    Comparison,
    Coverage,
    EqualUtility,
    Information,
    NotAttacked,
    Policy,
    SweepPoint,
    Threshold,
    Utility,
)

__all__ = [
    "SCHEMA_VERSION", "Alarm", "Baseline", "CellCounts", "CellError", "Comparison", "Coverage", "DataFacts", "Detection",
    "EqualUtility", "Information", "NotAttacked", "Patients", "PluginUsed", "Policy", "ProtocolSweep", "Provenance", "RecipeFacts",
    "Report", "SeatHolding", "Section", "SectionTable", "Sentences", "SweepPoint", "SweepSetting", "Threshold", "Traffic",
    "TrainedProtocol", "Utility", "Verdict",
]  # fmt: skip

SCHEMA_VERSION = "1.0"

Word = Literal["PASS", "FAIL", "REVIEW", "ERROR"]


class Verdict(Part):
    """The answer."""

    status: Word = Field(description="PASS, FAIL, REVIEW or ERROR.")
    exit_code: int = Field(description="Exit code that belongs to the status: 0 PASS, 3 FAIL, otherwise 4.")
    reasons: list[str] = Field(default=[], description="Why, most important first.")


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
    architecture: list[str] = Field(
        default=[], description="Why an architecture in whose updates attacks found little is no defense; empty where none did."
    )
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
    equal_utility: list[EqualUtility] = Field(default=[], description="Swept defenses compared at equal Dice.")
    coverage: list[Coverage] = Field(default=[], description="Channels x attack families.")
    seats: list[SeatHolding] = Field(default=[], description="Who holds which modalities and sends which levels.")
    protocols: list[TrainedProtocol] = Field(default=[], description="How each protocol trained.")
    sweeps: list[ProtocolSweep] = Field(default=[], description="Protocols that send updates and differ in one number only.")
    traffic: list[Traffic] = Field(default=[], description="What crossed the wire.")
    alarms: list[Alarm] = Field(default=[], description="Alarms that defenses raised.")
    detections: list[Detection] = Field(default=[], description="How often watching defenses raised any.")
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
