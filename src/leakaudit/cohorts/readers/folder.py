"""File discovery in a plain folder, and a guess at the layout of a folder."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from leakaudit.cohorts.readers.brats import NAMES_2018, NAMES_2023
from leakaudit.cohorts.readers.cases import ALIASES, Case, Source, nifti_files, split_suffix, token
from leakaudit.cohorts.readers.labels import own_codes
from leakaudit.cohorts.readers.params import NiftiFolderParams
from leakaudit.errors import UserError

__all__ = ["find_folder", "looks_like"]

_OTHER_FORMATS = {".mha", ".mhd", ".nrrd", ".dcm", ".img", ".h5", ".npy"}


def find_folder(root: Path, params: NiftiFolderParams) -> list[Case]:
    """Return the cases whose file names match the pattern.

    Raises:
        UserError: There are NIfTI files, but none matches.
    """
    aliases = ALIASES | {name.lower(): modality for name, modality in params.aliases.items()}
    mask = params.mask.lower()
    pattern = _regex(params.pattern, [*aliases, mask])
    mask_pattern = _regex(params.mask_pattern, []) if params.mask_pattern else None
    codes = own_codes("this data set (label map of the recipe)", params.labels)
    cases: dict[tuple[str, str], Case] = {}
    unmatched: list[str] = []
    for file in nifti_files(root):
        path = split_suffix(file.name)
        of_mask = mask_pattern.fullmatch(path) if mask_pattern else None
        match = of_mask or pattern.fullmatch(path)
        if match is None:
            unmatched.append(file.name)
            continue
        fields = match.groupdict()
        patient, visit = fields["patient"], fields.get("visit") or ""
        new = Case(name=f"{patient} {visit}".strip(), patient=patient, timepoint=visit, codes=codes)
        case = cases.setdefault((patient, visit), new)
        case.site = case.site or fields.get("site") or ""
        kind = mask if of_mask else fields["modality"].lower()
        if kind == mask:
            case.add_mask(file)
        else:
            case.add(aliases[kind], Source(file))
    if unmatched and not cases:
        raise UserError(
            f"None of the {len(unmatched)} NIfTI files matches the pattern {params.pattern!r}; the first is {unmatched[0]}. "
            f"{{modality}} can be one of {', '.join(aliases)}, or {mask} for the mask; add other names to `aliases`."
        )
    return list(cases.values())


def _regex(pattern: str, modalities: list[str]) -> re.Pattern[str]:
    """Translate a pattern with fields into a regular expression for paths without suffix; repeated fields must agree.

    Where a name can be read in several ways, the patient gets the longest part.
    """
    any_modality = "|".join(re.escape(name) for name in sorted(modalities, key=len, reverse=True))
    seen: set[str] = set()
    out = []
    for part in re.split(r"(\{\w+\})", split_suffix(pattern.strip("/"))):
        name = part[1:-1] if part.startswith("{") else ""
        if not name:
            out.append(re.escape(part))
        elif name in seen:
            out.append(f"(?P={name})")
        else:
            seen.add(name)
            out.append(f"(?P<{name}>{any_modality if name == 'modality' else '[^/]+' if name == 'patient' else '[^/]+?'})")
    return re.compile("".join(out), re.IGNORECASE)


def looks_like(root: Path) -> str:
    """Return a sentence about what a folder seems to hold, for the message of a reader that found nothing in it."""
    files = list(islice(nifti_files(root), 500))
    if not files:
        others = {path.suffix.lower() for path in islice(root.rglob("*"), 5000)} & _OTHER_FORMATS
        if others:
            return f"It holds files of another format ({', '.join(sorted(others))}): convert them to NIfTI (.nii.gz) first."
        return "It holds no NIfTI file (.nii or .nii.gz): check `root`, and whether the archive has been unpacked."
    stems = [file.stem for file in files]
    if any("imagesTr/" in file.name for file in files):
        numbered = all(re.search(r"_\d{4}$", file.stem) for file in files if "imagesTr/" in file.name)
        guess = "nnunet-raw" if numbered else "msd-brain"
        missing = "" if any(root.glob("**/dataset.json")) else ", but its dataset.json is missing"
        return f"It looks like the layout of the dataset {guess!r}{missing}."
    for names, guess in ((NAMES_2023, "brats-2023"), (NAMES_2018, "brats-2018")):
        if any(names.fullmatch(token(stem)[0]) for stem in stems):
            return f"It looks like the layout of the dataset {guess!r}."
    if any(token(stem)[1] in ALIASES for stem in stems):
        return (
            f"It holds files such as {files[0].name}: describe their names with the dataset 'nifti-folder', for example "
            "pattern: '{patient}/{patient}_{modality}.nii.gz'."
        )
    return f"It holds {len(files)} NIfTI files such as {files[0].name}, of no known layout; the dataset 'nifti-folder' can \
describe them."
