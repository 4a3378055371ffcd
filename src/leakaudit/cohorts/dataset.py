"""What a dataset plugin implements: an inventory without voxels, and loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from leakaudit.cohorts.cohort import Cohort
from leakaudit.plugins.params import DatasetParams

__all__ = ["Dataset", "Inventory", "PatientEntry"]

P = TypeVar("P", bound=DatasetParams)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientEntry:
    """One patient that a dataset can deliver.

    Attributes:
        patient: Patient key.
        site: Hospital.
        visits: Number of visits.
        records: Number of samples (slices or volumes) of one visit.
    """

    patient: str
    site: str
    visits: int = 1
    records: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a dataset holds, known from parameters or file headers.

    Attributes:
        patients: Every usable patient, in sorted order of their keys.
        modalities: Image channels.
        shape: Spatial shape of one sample in voxels.
        notes: What a reader of the report must know about this data.
        identifiers: Further words that no report, log or message of a run may hold, such as names of files; keys of patients
            are among them anyway.
    """

    patients: tuple[PatientEntry, ...]
    modalities: tuple[str, ...]
    shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()


class Dataset(ABC, Generic[P]):
    """A source of patients.

    Args:
        params: The dataset's parameters.
        seed: Seed of everything random in it (a phantom's anatomy, which slices are taken).
    """

    def __init__(self, params: P, seed: int) -> None:
        self.params = params
        self.seed = seed

    @abstractmethod
    def inventory(self) -> Inventory:
        """Return what there is, without reading voxels.

        Raises:
            UserError: The data cannot be used; the message names the file and says what to do.
        """

    @abstractmethod
    def load(self, patients: Sequence[str], *, visits: Sequence[int] = (0,)) -> Cohort:
        """Return the samples of `patients`, sorted by patient, visit and position.

        Args:
            patients: Patient keys of the inventory.
            visits: Visits to load; a patient without one of them is left out of that visit.

        Raises:
            UserError: A file is unusable; the message names it and says what to do.
        """
