"""The run's own part of `report.json`: recipe, software, data, traffic, and how the work was done."""

from __future__ import annotations

from pydantic import Field

from leakaudit.report.base import Count, Measured, Part
from leakaudit.threats import Channel

__all__ = [
    "Alarm", "CellCounts", "CellError", "DataFacts", "Detection", "Patients", "PluginUsed", "Provenance", "RecipeFacts",
    "SeatHolding", "Traffic",
]  # fmt: skip


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

    members: Count = Field(description="Trained on.")
    validation: Count = Field(description="Used for choices, never for results.")
    test: Count = Field(description="Used for utility.")
    non_members: Count = Field(description="Never trained on, for membership.")
    auxiliary: Count = Field(description="May be owned by the adversary.")


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
    min_cell: int | None = Field(
        default=None, ge=1, description="Nothing rests on fewer real patients than this; null where nothing was suppressed."
    )


class SeatHolding(Part):
    """What one seat holds and sends, as everybody may know it."""

    protocol: str = Field(description="Label of the protocol.")
    seat: str = Field(description="Id of the seat, for example 'client-1'.")
    role: str = Field(description="What it is in the protocol: client, server, site, ...")
    modalities: list[str] = Field(default=[], description="Modalities of the images that it holds; empty where it holds none.")
    labels: bool = Field(default=False, description="Whether it holds the masks.")
    levels: list[str] = Field(default=[], description="Feature levels that it sends over the cut, shallowest first.")


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


class Detection(Part):
    """How often a defense that watches for tampering raised an alarm, in honest trainings or under one attack."""

    protocol: str = Field(description="Label of the protocol.")
    defense: str = Field(description="Label of the defense.")
    attack: str | None = Field(description="Attack that alters the training; null for honest trainings, where an alarm is false.")
    alarms: int = Field(ge=0, description="Trainings that an alarm stopped.")
    trainings: int = Field(ge=0, description="Trainings.")
    rate: Measured = Field(description="Share of trainings with an alarm, with its Clopper-Pearson interval.")
    batches: list[int] = Field(default=[], description="Batches whose samples had crossed by each alarm, in rising order.")
    planned: int | None = Field(default=None, ge=0, description="Batches of a training that runs to its end; null if unknown.")


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
