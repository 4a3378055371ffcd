"""Cohorts: patients with images, masks and identities, their split by patient, and the datasets they come from."""

from __future__ import annotations

from leakaudit.cohorts.cohort import LABELS, MODALITIES, REGIONS, Cohort, Origin, Sample, Split, regions
from leakaudit.cohorts.dataset import Dataset, Inventory, PatientEntry

__all__ = [
    "LABELS", "MODALITIES", "REGIONS", "Cohort", "Dataset", "Inventory", "Origin", "PatientEntry", "Sample", "Split", "regions",
]  # fmt: skip
