"""Cohorts that look like a hospital's: identifiers in every place that a file system and a header offer, and a search for them."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import nibabel as nib
import numpy as np

__all__ = ["Planted", "brats", "folder", "hits", "msd", "nnunet"]

SHAPE = (24, 26, 5)
FAMILIES = (
    "Abiodun", "Brankovic", "Csizmadia", "Dahlqvist", "Etxeberria", "Fairweather", "Grzybowska", "Hallgrimsson", "Ishikawa",
    "Jankauskas", "Kowalczyk", "Lindholm", "Mwangi-Otieno", "Nakagawa", "Oconnell", "Papadakis", "Quispe", "Rasmussen",
    "Szymanska", "Thorvaldsen", "Uzunoglu", "Vasquez", "Wolterstorff", "Yamanaka",
)  # fmt: skip


@dataclass
class Planted:
    """A cohort on disk.

    Attributes:
        root: Its folder.
        patients: Patient keys as the readers see them.
        words: All that nobody but the operator may read.
        files: A file of each patient and visit: its first modality.
    """

    root: Path
    patients: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    files: dict[tuple[str, int], Path] = field(default_factory=dict)


def _volume(seed: int) -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    ball = ((x - 11.5) / 9) ** 2 + ((y - 12.5) / 10) ** 2 + ((z - 2) / 4) ** 2 < 1
    return np.where(ball, np.random.default_rng(seed).integers(50, 900, SHAPE), 0).astype(np.int16)


def _mask(values: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for n, value in enumerate(values):
        mask[8:14, 8 + 3 * n : 11 + 3 * n, 1:4] = value
    return mask


def _save(path: Path, data: np.ndarray, who: str, number: str) -> None:
    """Write a file whose header says whose it is, in every field that holds text, and a sidecar that says it again."""
    image = nib.Nifti1Image(data, np.eye(4))
    header = image.header
    header["descrip"] = f"{who} {number}".encode("ascii", "replace")[:79]
    header["db_name"] = f"DB{number}".encode()[:17]
    header["aux_file"] = f"{who}.aux".encode("ascii", "replace")[:23]
    header["intent_name"] = who.encode("ascii", "replace")[:15]
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"PatientName={who} PatientID={number}".encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    sidecar = {"PatientName": who, "PatientID": number, "InstitutionName": "Klinikum Mooswald", "StudyDate": "2017-02-29"}
    path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(sidecar, ensure_ascii=False))


def _person(planted: Planted, i: int, key: str) -> tuple[str, str]:
    """Return name and number of the i-th patient, and note what must not be seen again."""
    name, number = f"{FAMILIES[i]}^Wilhelmina", f"PID{7100 + 13 * i}X"
    planted.patients.append(key)
    planted.words |= {key, FAMILIES[i], name, number, "Wilhelmina", "Klinikum Mooswald", "2017-02-29", planted.root.name}
    return name, number


def _noted(planted: Planted, key: str, visit: int, path: Path) -> None:
    planted.files.setdefault((key, visit), path)


def brats(root: Path, count: int = 16, twice: int = 4) -> Planted:
    """BraTS 2023: a folder for each case, below a ward's; the first `twice` patients come again."""
    planted = Planted(root)
    planted.words.add("Neurochirurgie Station 4b")
    for i in range(count):
        key = f"BraTS-GLI-{88010 + 37 * i}"
        name, number = _person(planted, i, key)
        planted.words.add(f"{88010 + 37 * i}")
        for visit in range(1 + (i < twice)):
            case = f"{key}-{visit:03d}"
            below = root / "Neurochirurgie Station 4b" / FAMILIES[i] / case
            for m, modality in enumerate(("t2f", "t1n")):
                path = below / f"{case}-{modality}.nii.gz"
                _save(path, _volume(1000 * i + 10 * visit + m), name, number)
                _noted(planted, key, visit, path)
            _save(below / f"{case}-seg.nii.gz", _mask((1, 2, 3)), name, number)
    return planted


def nnunet(root: Path, count: int = 16) -> Planted:
    """nnU-Net raw: names with blanks and umlauts, two visits of some patients, and a dataset.json that names the hospital."""
    planted = Planted(root)
    planted.words.add("Universitätsklinik Rabental")
    for i in range(count):
        key = f"{FAMILIES[i]} Jürgen {1931 + i}-04-17"
        name, number = _person(planted, i, key)
        planted.words |= {"Jürgen", f"{1931 + i}-04-17"}
        for visit in range(1 + (i % 4 == 0)):
            case = f"{key}_v{visit}"
            for channel in range(2):
                path = root / "imagesTr" / f"{case}_000{channel}.nii.gz"
                _save(path, _volume(7000 + 100 * i + 10 * visit + channel), name, number)
                _noted(planted, key, visit, path)
            _save(root / "labelsTr" / f"{case}.nii.gz", _mask((1, 2, 3)), name, number)
    about = {
        "name": "Universitätsklinik Rabental", "channel_names": {"0": "FLAIR", "1": "T1"}, "file_ending": ".nii.gz",
        "labels": {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}, "numTraining": count,
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    return planted


def folder(root: Path, count: int = 18, sites: tuple[str, ...] = ("St. Wendelin Ward 7", "Dr. Oyarzabal")) -> Planted:
    """A plain folder: hospitals, patients and dates as folders."""
    planted = Planted(root)
    planted.words |= {*sites, "Wendelin", "Oyarzabal", "2019-03-12"}
    for i in range(count):
        key = f"{FAMILIES[i]}, Olga ({1940 + i})"
        name, number = _person(planted, i, key)
        planted.words |= {f"({1940 + i})"}
        below = root / sites[i % len(sites)] / key / "2019-03-12"
        for m, modality in enumerate(("flair", "t1")):
            path = below / f"{modality}.nii.gz"
            _save(path, _volume(50_000 + 10 * i + m), name, number)
            _noted(planted, key, 0, path)
        _save(below / "seg.nii.gz", _mask((1, 2, 3)), name, number)
    return planted


def msd(root: Path, count: int = 12) -> Planted:
    """Decathlon Task01: one file of four channels for each patient."""
    planted = Planted(root)
    top = root / "Task01_BrainTumour"
    for i in range(count):
        key = f"{FAMILIES[i].upper()}-{60210 + i}"
        name, number = _person(planted, i, key)
        path = top / "imagesTr" / f"{key}.nii.gz"
        _save(path, np.stack([_volume(90_000 + 10 * i + c) for c in range(4)], axis=-1), name, number)
        _save(top / "labelsTr" / f"{key}.nii.gz", _mask((1, 2, 3)), name, number)
        _noted(planted, key, 0, path)
    about = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "name": "Klinikum Mooswald",
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }  # fmt: skip
    (top / "dataset.json").write_text(json.dumps(about))
    return planted


def hits(text: str | bytes, words: Iterable[str]) -> set[str]:
    """Return the words that a text holds, whatever their case: plain, escaped for JSON, HTML, URLs, or in base64 or hex."""
    data = text if isinstance(text, str) else text.decode("utf-8", errors="replace")
    low = unicodedata.normalize("NFC", data).lower()
    found = {w for w in words for form in _forms(w) if _occurs(form.lower(), low)}
    return found | {w for w in words if any(form in data for form in _base64(w))}


def _occurs(form: str, text: str) -> bool:
    """Whether a form is there; a number is not there where it is a part of another one, or of a digest."""
    if not form.isdigit():
        return form in text
    return re.search(rf"(?<![0-9a-z.]){form}(?![0-9a-z])", text) is not None


def _forms(word: str) -> set[str]:
    plain = {word, word.replace(" ", "_"), word.replace(" ", "-"), word.replace(" ", "")}
    escaped = {json.dumps(word)[1:-1], html.escape(word), quote(word), quote_plus(word), word.encode("unicode_escape").decode()}
    return plain | escaped | {repr(word)[1:-1], word.encode().hex(), re.sub(r"\s+", "\n", word)}


def _base64(word: str) -> set[str]:
    """Return the part of a word's base64 that does not depend on what stands around it, at each of the three offsets."""
    forms = set()
    for offset in range(3):
        data = word.encode()
        text = base64.b64encode(b"\0" * offset + data).decode()
        start, end = -(-8 * offset // 6), (8 * (offset + len(data))) // 6
        forms |= {text[start:end], text[start:end].replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= 7}


def everything(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path; the path counts as text, too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def as_recipe(use: str, planted: Planted, **params: Any) -> dict[str, Any]:
    """Return the recipe's `data`, with 32 x 32 slices of two modalities and the root in the environment."""
    given = {"root": "${PLANTED_ROOT}", "modalities": ["flair", "t1"], "size": 32, "slices": 1, **params}
    split = {"members": 6, "validation": 3, "test": 3, "non_members": 2, "auxiliary": 2, "attacked": 6}
    return {"use": use, "params": given, "split": split}
