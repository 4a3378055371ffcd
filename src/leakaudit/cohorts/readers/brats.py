"""File discovery in the releases of BraTS."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from leakaudit.cohorts.readers.cases import ALIASES, MASKS, Case, File, Source, nifti_files, token
from leakaudit.cohorts.readers.labels import BRATS_2018, BRATS_2023
from leakaudit.errors import UserError

__all__ = ["NAMES_2018", "NAMES_2023", "find_2018", "find_2023", "institution"]

NAMES_2018 = re.compile(r"brats(20)?(1\d|2[01])_.+", re.IGNORECASE)
"""Case names of BraTS 2017 to 2021, such as Brats18_CBICA_AAB_1, BraTS20_Training_001 and BraTS2021_00000."""

NAMES_2023 = re.compile(r"(BraTS-([A-Z]+)-\d+)-(\d+)", re.IGNORECASE)
"""Case names since BraTS 2023, such as BraTS-GLI-00000-000: patient and timepoint."""

_WITH_INSTITUTION = re.compile(r"(brats1\d_([a-z]+\d*|2013)_[^_]+)(?:_(\d+))?", re.IGNORECASE)


def find_2018(root: Path) -> list[Case]:
    """Return the cases of BraTS 2018 to 2021 below `root`, in HGG and LGG folders, nested copies or flat.

    A trailing number after institution and patient (Brats18_CBICA_AAB_1) is a scan of that patient.
    """

    def case(name: str) -> Case:
        match = _WITH_INSTITUTION.fullmatch(name)
        patient, timepoint = (match[1], match[3] or "") if match else (name, "")
        return Case(name=name, patient=patient, timepoint=timepoint, codes=BRATS_2018)

    return _group(nifti_files(root), NAMES_2018, case)


def find_2023(root: Path, edition: int) -> list[Case]:
    """Return the cases of BraTS 2023 or 2024 below `root`.

    Raises:
        UserError: The label values of a collection are not known in this edition.
    """

    def case(name: str) -> Case:
        match = NAMES_2023.fullmatch(name)
        assert match is not None  # _group passes matching names only
        kind = match[2].upper()
        if (edition, kind) not in BRATS_2023:
            known = ", ".join(f"{year} {k}" for year, k in BRATS_2023)
            raise UserError(
                f"Case {name} belongs to BraTS {edition} {kind}, whose labels this reader does not know (it knows {known}). "
                "Use the dataset 'nifti-folder' with a label map."
            )
        return Case(name=name, patient=match[1], timepoint=match[3], codes=BRATS_2023[edition, kind])

    return _group(nifti_files(root), NAMES_2023, case)


def institution(patient: str) -> str | None:
    """Return the institution in a patient key of BraTS 2017 to 2019 (CBICA, 2013, TCIA01, ...), or None."""
    match = _WITH_INSTITUTION.fullmatch(patient)
    return match[2] if match else None


def _group(files: Iterable[File], names: re.Pattern[str], make: Callable[[str], Case]) -> list[Case]:
    """Group files into cases by what stands before the last token of their names."""
    cases: dict[str, Case] = {}
    in_folder: defaultdict[str, set[str]] = defaultdict(set)
    strays: list[File] = []
    for file in files:
        name, last = token(file.stem)
        if last in MASKS and not names.fullmatch(name):
            strays.append(file)
        elif names.fullmatch(name) and (last in ALIASES or last in MASKS):
            case = cases.setdefault(name, make(name))
            in_folder[file.folder].add(name)
            if last in MASKS:
                case.add_mask(file)
            else:
                case.add(ALIASES[last], Source(file))
    for file in strays:  # a mask under a foreign name belongs to the only case of its folder, if that lacks one
        owners = [cases[name] for name in in_folder[file.folder]]
        if len(owners) == 1 and owners[0].mask is None:
            owners[0].add_mask(file)
    return list(cases.values())
