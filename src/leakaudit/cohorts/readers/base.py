"""What all readers share: the inventory from headers, the checks before any training, and loading patient by patient."""

from __future__ import annotations

import csv
import hashlib
import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from leakaudit.cohorts.cohort import Cohort, Origin, Sample
from leakaudit.cohorts.dataset import Dataset, Inventory, PatientEntry
from leakaudit.cohorts.readers.brats import institution
from leakaudit.cohorts.readers.cases import Case, identifiers, natural
from leakaudit.cohorts.readers.folder import looks_like
from leakaudit.cohorts.readers.params import ReaderParams
from leakaudit.cohorts.readers.visit import Visit, check_grids, choose_slices, read_visit
from leakaudit.errors import UserError, nearest

__all__ = ["NiftiDataset"]

R = TypeVar("R", bound=ReaderParams)

_FEW = 36  # reference evidence: the fewest patients with which an audit can PASS


class NiftiDataset(Dataset[R]):
    """A data set of NIfTI files; subclasses find the cases of one layout.

    Attributes:
        layout: Plugin name of the dataset.
        overlap: A note on people that this data shares with other releases; may be empty.
    """

    layout: ClassVar[str]
    overlap: ClassVar[str] = ""

    def __init__(self, params: R, seed: int) -> None:
        super().__init__(params, seed)
        self._visits: dict[str, list[Case]] | None = None
        self._notes: list[str] = []
        self._identifiers: tuple[str, ...] = ()
        self._owners: dict[str, str] = {}  # patient by fingerprint of the images read so far

    @abstractmethod
    def find(self, root: Path) -> list[Case]:
        """Return the cases below `root`, whole or not; none if it holds another layout."""

    def root(self) -> Path:
        """Return the folder of the data set.

        Raises:
            UserError: There is no such folder.
        """
        text = os.path.expanduser(os.path.expandvars(self.params.root))
        if "$" in text:
            raise UserError(f"root {self.params.root!r} names an environment variable that is not set. Set it and try again.")
        path = Path(text)
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise UserError(f"root {self.params.root!r} of the dataset {self.layout!r} {what}. Give the folder of the data set.")
        return path

    def inventory(self) -> Inventory:
        """Return the patients; reads file names and headers, no voxels. Each patient has a mask and all modalities wanted."""
        visits = self._cases()
        patients = tuple(
            PatientEntry(patient=key, site=cases[0].site, visits=len(cases), records=self.params.records)
            for key, cases in visits.items()
        )
        modalities = tuple(self.params.modalities)
        return Inventory(
            patients=patients, modalities=modalities, shape=self.params.shape, notes=tuple(self._notes),
            identifiers=self._identifiers,
        )  # fmt: skip

    def check(self, *, deep: bool = False) -> tuple[str, ...]:
        """Check the data set before anything is trained.

        Args:
            deep: Read the voxels of every file once, instead of the headers only.

        Returns:
            Notes for the reader of a report.

        Raises:
            UserError: A file is unusable; the message names it and says what to do.
        """
        visits = self._cases()
        remarks: defaultdict[str, set[str]] = defaultdict(set)
        for key in visits if deep else ():
            for case in visits[key]:
                visit = self._read(case, remarks)
                self._slices(visit, case, remarks)
        return (*self._notes, *_phrases(remarks))

    def load(self, patients: Sequence[str], *, visits: Sequence[int] = (0,)) -> Cohort:
        """Return the samples of `patients`, sorted by patient, visit and position; one visit at a time is in memory."""
        from leakaudit.cohorts.readers.assemble import assemble  # imports MONAI and torch, which the inventory must not

        wanted = list(self._wanted(patients, visits))
        n, shape = len(wanted) * self.params.records, self.params.shape
        images = np.zeros((n, len(self.params.modalities), *shape), dtype=np.float32)
        labels = np.zeros((n, *shape), dtype=np.uint8)
        brain = np.zeros((n, *shape), dtype=np.bool_)
        samples: list[Sample] = []
        spacing: dict[tuple[str, int], tuple[float, ...]] = {}
        digest = hashlib.sha256()
        remarks: defaultdict[str, set[str]] = defaultdict(set)
        for index, case in wanted:
            visit = self._read(case, remarks)
            positions = self._slices(visit, case, remarks)
            made = assemble(visit, shape, positions)
            rows = slice(len(samples), len(samples) + len(made.labels))
            images[rows], labels[rows], brain[rows] = made.images, made.labels, made.brain
            spacing[case.patient, index] = made.spacing
            samples += [
                Sample(patient=case.patient, site=case.site, visit=index, position=position) for position in positions or [0]
            ]
            digest.update(bytes.fromhex(visit.digest))
        notes = (*self._notes, *_phrases(remarks))
        return Cohort(
            images=images, labels=labels, brain=brain, samples=tuple(samples), modalities=tuple(self.params.modalities),
            origin=Origin(dataset=self.layout, public=self.params.public, digest=digest.hexdigest(), notes=notes),
            spacing=spacing,
        )  # fmt: skip

    def _wanted(self, patients: Sequence[str], visits: Sequence[int]) -> Iterator[tuple[int, Case]]:
        known = self._cases()
        for key in sorted(set(patients)):
            if key not in known:
                raise UserError(f"The dataset {self.layout!r} has no patient {key!r}.{nearest(key, known)}")
            yield from ((index, known[key][index]) for index in sorted(set(visits)) if 0 <= index < len(known[key]))

    def _read(self, case: Case, remarks: defaultdict[str, set[str]]) -> Visit:
        """Read one visit, note its remarks, and refuse a scan that another patient has, too."""
        visit = read_visit(case, self.params.modalities)
        owner = self._owners.setdefault(visit.fingerprint, case.patient)
        if owner != case.patient:
            raise UserError(
                f"Patients {owner} and {case.patient} have identical images, so a split between them would be void. Leave out "
                "one of them (`exclude`)."
            )
        for remark in visit.remarks:
            remarks[remark].add(case.patient)
        return visit

    def _slices(self, visit: Visit, case: Case, remarks: defaultdict[str, set[str]]) -> list[int] | None:
        if self.params.dims == 3:
            return None
        positions, cut = choose_slices(visit, self.params.slices, self.params.choose, case.name)
        if cut:
            remarks["the brain is cut off in some of the slices taken"].add(case.patient)
        return positions

    def _cases(self) -> dict[str, list[Case]]:
        """Return the checked visits of each patient in sorted order, reading headers on the first call."""
        if self._visits is not None:
            return self._visits
        root = self.root()
        found = self.find(root)
        if not found:
            raise UserError(f"{self.params.root!r} holds no case of the dataset {self.layout!r}. {looks_like(root)}")
        self._identifiers = identifiers(found, root)
        whole = self._usable(found)
        visits: dict[str, list[Case]] = {}
        for case in sorted(whole, key=lambda c: (c.patient, natural(c.timepoint))):
            visits.setdefault(case.patient, []).append(case)
        self._assign_sites(visits, root)
        if len(visits) < 2:
            raise UserError(
                f"{self.params.root!r} holds only one usable patient ({whole[0].patient}). An audit compares members with "
                "others, so it needs at least two: add patients."
            )
        for case in whole:
            grid = check_grids(case, self.params.modalities)
            if self.params.dims == 2 and grid.shape[2] < self.params.slices:
                raise UserError(
                    f"Case {case.name} has {grid.shape[2]} axial slices, but `slices` asks for {self.params.slices}. Lower "
                    "`slices`, or leave out this patient (`exclude`)."
                )
        self._notes += [case.codes.note for case in whole if case.codes.note and case.codes.note not in self._notes]
        if len(visits) < _FEW:
            self._notes.append(
                f"{len(visits)} patients: results are per patient, and membership inference on so few is a smoke test"
            )
        self._notes += [self.overlap] if self.overlap else []
        self._visits = visits
        return visits

    def _usable(self, found: Sequence[Case]) -> list[Case]:
        """Leave out excluded patients and cases without images or mask; refuse a missing modality."""
        known = {case.patient for case in found}
        for key in self.params.exclude:
            if key not in known:
                raise UserError(f"exclude names {key!r}, but there is no such patient.{nearest(key, known)}")
        kept = [case for case in found if case.patient not in self.params.exclude]
        no_mask = [case for case in kept if case.mask is None]
        no_images = [case for case in kept if not case.images]
        whole = [case for case in kept if case.mask is not None and case.images]
        if not whole:
            raise UserError(
                f"{self.params.root!r} holds no case with images and mask: {len(no_mask)} without mask, {len(no_images)} "
                f"without images, {len(found) - len(kept)} excluded. Give the training data, which has masks."
            )
        self._notes = [
            f"left out for want of {what}: {len(left)} of {len(kept)} cases"
            for left, what in ((no_mask, "a mask"), (no_images, "images"))
            if left
        ]
        for case in whole:
            missing = [modality for modality in self.params.modalities if modality not in case.images]
            if missing:
                there = next(iter(case.images.values())).file.name
                raise UserError(
                    f"Case {case.name} has no {' and no '.join(missing)} (it has {', '.join(sorted(case.images))}, for example "
                    f"{there}). Add the file, drop the modality from `modalities`, or exclude patient {case.patient!r}."
                )
        return whole

    def _assign_sites(self, visits: dict[str, list[Case]], root: Path) -> None:
        table = self._read_table(root) if self.params.sites == "table" else {}
        for patient, cases in visits.items():
            site = cases[0].site or "site-0"
            if self.params.sites == "institution":
                site = institution(patient) or ""
                if not site:
                    raise UserError(
                        f"Patient {patient} has no institution in its name (such as CBICA in Brats18_CBICA_AAB_1). Use sites: "
                        "table with a CSV file, or sites: none."
                    )
            elif table:
                if patient not in table:
                    raise UserError(f"site_table has no line for patient {patient!r}.{nearest(patient, table)}")
                site = table[patient]
            for case in cases:
                case.site = site

    def _read_table(self, root: Path) -> dict[str, str]:
        name = os.path.expanduser(os.path.expandvars(self.params.site_table or ""))
        try:
            with open(root / name, newline="", encoding="utf-8-sig") as stream:
                rows = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"site_table {self.params.site_table!r} cannot be read: {error}.") from None
        if not rows or not {"patient", "site"} <= rows[0].keys() or not all(row["patient"] and row["site"] for row in rows):
            raise UserError(
                f"site_table {self.params.site_table!r} must be a CSV file with the columns patient and site, both filled."
            )
        return {row["patient"]: row["site"] for row in rows}


def _phrases(remarks: dict[str, set[str]]) -> list[str]:
    """Return remarks with their numbers of patients, without names."""
    return [f"{what} in {len(who)} patient{'s'[: len(who) != 1]}" for what, who in sorted(remarks.items())]
