"""File discovery in folders with a dataset.json: MSD Task01 and raw data sets of nnU-Net."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from leakaudit.cohorts.readers.cases import ALIASES, Case, File, Source, nifti_files
from leakaudit.cohorts.readers.labels import MSD, LabelCodes, label_of, own_codes
from leakaudit.cohorts.readers.params import NnunetRawParams
from leakaudit.errors import UserError

__all__ = ["find_msd", "find_nnunet", "task_folder"]

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def task_folder(root: Path) -> Path | None:
    """Return the folder of dataset.json, which is `root` or one below it; None if there is none.

    Raises:
        UserError: Several folders below `root` have one.
    """
    if (root / "dataset.json").is_file():
        return root
    found = sorted(path.parent for path in root.glob("*/dataset.json") if not path.parent.name.startswith("."))
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise UserError(f"The root holds {len(found)} data sets ({names}). Let `root` end with the one to read.")
    return found[0] if found else None


def find_msd(root: Path) -> list[Case]:
    """Return the cases of a Decathlon brain tumor folder; empty if it does not look like one.

    Raises:
        UserError: dataset.json is unreadable, or it describes other channels or labels than Task01.
    """
    folder = task_folder(root)
    if folder is None:
        return []
    about = _read_json(folder / "dataset.json")
    channels = _channels(about, "modality")
    _check_msd_labels(about)
    files = {part: _files(folder, root, part) for part in ("imagesTr", "labelsTr")}
    if files["imagesTr"] and all(_CHANNEL.fullmatch(stem) for stem in files["imagesTr"]):
        return []
    cases = []
    for stem in sorted(files["imagesTr"].keys() | files["labelsTr"].keys()):
        case = Case(name=stem, patient=stem, codes=MSD, mask=files["labelsTr"].get(stem))
        if stem in files["imagesTr"]:
            for index, modality in channels.items():
                case.add(modality, Source(files["imagesTr"][stem], index, len(channels)))
        cases.append(case)
    return cases


def find_nnunet(root: Path, params: NnunetRawParams) -> list[Case]:
    """Return the cases of a raw data set of nnU-Net (version 1 or 2); empty if it does not look like one.

    Raises:
        UserError: dataset.json is unreadable or does not tell channels or labels, or a case name does not match.
    """
    folder = task_folder(root)
    if folder is None:
        return []
    about = _read_json(folder / "dataset.json")
    ending = str(about.get("file_ending", ".nii.gz"))
    if ending.lower() not in (".nii", ".nii.gz"):
        raise UserError(f"dataset.json says that the files end with {ending!r}. Convert them to NIfTI (.nii.gz) first.")
    channels = _channels(about, "channel_names" if "channel_names" in about else "modality")
    codes = _nnunet_codes(about, params)
    masks = _files(folder, root, "labelsTr")
    cases: dict[str, Case] = {}
    for stem, file in _files(folder, root, "imagesTr").items():
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            continue
        case = cases.setdefault(match[1], _nnunet_case(match[1], codes, params))
        if int(match[2]) in channels:
            case.add(channels[int(match[2])], Source(file))
    for stem, file in masks.items() if cases else ():
        cases.setdefault(stem, _nnunet_case(stem, codes, params)).add_mask(file)
    return list(cases.values())


def _nnunet_case(name: str, codes: LabelCodes, params: NnunetRawParams) -> Case:
    if params.patient_pattern is None:
        return Case(name=name, patient=name, codes=codes)
    match = re.fullmatch(params.patient_pattern, name)
    if match is None:
        raise UserError(f"Case {name} does not match patient_pattern {params.patient_pattern!r}. Correct the pattern.")
    groups = match.groupdict()
    return Case(name=name, patient=groups["patient"], timepoint=groups.get("visit") or "", codes=codes)


def _files(folder: Path, root: Path, part: str) -> dict[str, File]:
    """Return the files of one sub-folder by stem, named from the root of the data set."""
    start = folder / part
    prefix = start.relative_to(root).as_posix()
    found = nifti_files(start) if start.is_dir() else ()
    return {file.stem: File(file.path, f"{prefix}/{file.name}") for file in found}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read as JSON ({error}). Restore the original file.") from None
    if not isinstance(about, dict):
        raise UserError(f"{path.name} must hold an object with channel names and labels. Restore the original file.")
    return about


def _channels(about: dict[str, Any], key: str) -> dict[int, str]:
    """Return the canonical modality by channel index; every channel of a 4-D file must be named."""
    named = about.get(key)
    if not isinstance(named, dict) or not named:
        raise UserError(f"dataset.json does not name its channels. Add {key!r}, for example {{'0': 'FLAIR', '1': 'T1w'}}.")
    channels: dict[int, str] = {}
    for index, name in named.items():
        modality = ALIASES.get(str(name).lower())
        if modality is None or not str(index).isdigit():
            raise UserError(
                f"dataset.json calls channel {index} {name!r}, which is no known brain MRI modality (known names: "
                f"{', '.join(ALIASES)}). Is this the brain tumor data set? If so, rename the channel."
            )
        if modality in channels.values():
            raise UserError(f"dataset.json names two channels that both mean {modality}. Correct {key!r}.")
        channels[int(index)] = modality
    return channels


def _check_msd_labels(about: dict[str, Any]) -> None:
    labels = about.get("labels", {})
    for value, name in labels.items() if isinstance(labels, dict) else ():
        if not str(value).isdigit() or MSD.values.get(int(value)) != label_of(str(name)):
            raise UserError(
                f"dataset.json says that label {value} is {name!r}, but in MSD Task01 the masks hold {MSD.meaning}. If the "
                "file is right, use the dataset 'nnunet-raw' or 'nifti-folder' with a label map."
            )


def _nnunet_codes(about: dict[str, Any], params: NnunetRawParams) -> LabelCodes:
    """Return the codes of the recipe, or those that the label names of dataset.json imply."""
    if params.labels is not None:
        return own_codes("this data set (label map of the recipe)", params.labels)
    ask = "State `labels` in the recipe, for example {1: 2, 2: 1, 3: 3} (0 background, 1 NCR, 2 ED, 3 ET)."
    named = about.get("labels")
    if not isinstance(named, dict) or not named:
        raise UserError(f"dataset.json does not name its labels. {ask}")
    values: dict[int, int] = {}
    for left, right in named.items():
        name, value = (right, left) if str(left).isdigit() else (left, right)  # version 1 is {value: name}
        target = label_of(str(name))
        if not str(value).isdigit() or target is None:
            raise UserError(f"dataset.json has the label {name!r}: {value!r}, whose meaning is not certain. {ask}")
        values[int(value)] = target
    return own_codes("this data set (label names of dataset.json)", values)
