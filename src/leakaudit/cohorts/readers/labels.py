"""Label values of each layout, and their translation into canonical ones.

Value 4 and the order of 1 and 2 mean different things in different releases, so the layout decides, never the values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.cohort import LABELS
from leakaudit.errors import UserError

__all__ = ["BRATS_2018", "BRATS_2023", "MSD", "LabelCodes", "label_of", "own_codes", "to_canonical"]


@dataclass(frozen=True, slots=True)
class LabelCodes:
    """Meaning of the values in the masks of one layout.

    Attributes:
        layout: Whose masks.
        values: Canonical label by value in the file.
        meaning: The values in words.
        hint: What to do about a value that is not listed.
        note: What the reader of a report must know about the translation; may be empty.
    """

    layout: str
    values: Mapping[int, int]
    meaning: str
    hint: str
    note: str = ""


_HINT_2023 = "Set `edition` to the year of the release: 4 is the resection cavity in 2024 GLI and edema in 2024 PED."

_PLAIN_2023 = LabelCodes(
    "BraTS 2023", {0: 0, 1: 1, 2: 2, 3: 3}, "0 background, 1 non-enhancing core, 2 edema, 3 enhancing tumor", _HINT_2023
)

BRATS_2018 = LabelCodes(
    "BraTS 2018 to 2021", {0: 0, 1: 1, 2: 2, 4: 3}, "0 background, 1 NCR/NET, 2 edema, 4 enhancing tumor",
    "Since BraTS 2023 the enhancing tumor is 3: if this is such data, use the dataset 'brats-2023'.",
)  # fmt: skip

BRATS_2023: dict[tuple[int, str], LabelCodes] = {
    **{(2023, kind): _PLAIN_2023 for kind in ("GLI", "MEN", "MET", "PED", "SSA")},
    (2024, "GLI"): LabelCodes(
        "BraTS 2024 GLI", {0: 0, 1: 1, 2: 2, 3: 3, 4: 0},
        "0 background, 1 NETC, 2 SNFH (edema), 3 enhancing tumor, 4 resection cavity", "Check the release of these files.",
        "the resection cavity (label 4 of BraTS 2024 GLI) belongs to no tumor region and counts as background",
    ),
    (2024, "PED"): LabelCodes(
        "BraTS 2024 PED", {0: 0, 1: 3, 2: 1, 3: 1, 4: 2},
        "0 background, 1 enhancing tumor, 2 non-enhancing tumor, 3 cystic component, 4 edema",
        "Check the release of these files.",
        "the cystic component (label 3 of BraTS 2024 PED) counts as NCR, like the non-enhancing tumor",
    ),
}  # fmt: skip
"""Codes by edition and collection."""

MSD = LabelCodes(
    "MSD Task01", {0: 0, 1: 2, 2: 1, 3: 3}, "0 background, 1 edema, 2 non-enhancing tumor, 3 enhancing tumor",
    "If the masks follow another convention, use the dataset 'nifti-folder' with a label map.",
)  # fmt: skip


def own_codes(layout: str, labels: Mapping[int, int]) -> LabelCodes:
    """Return the codes of a label map that a recipe or a dataset.json states."""
    values = {0: 0, **labels}
    names = {value: name for name, value in LABELS.items()}
    meaning = ", ".join(f"{source} {names[target]}" for source, target in sorted(values.items()))
    return LabelCodes(layout, values, meaning, "Add the value to the label map `labels` (to 0 if it is no tumor).")


def label_of(name: str) -> int | None:
    """Return the canonical label that a label name of a dataset.json means, or None if it is none of them."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    text = " ".join(re.findall(r"[a-z]+", name.lower()))
    if "background" in words or words & {"rc", "cavity"}:
        return LABELS["background"]
    if re.search(r"\bo?edema", text) or words & {"ed", "snfh"}:
        return LABELS["ED"]
    if re.search(r"\bnon ?enhanc|necro", text) or words & {"ncr", "net", "netc", "cc"}:
        return LABELS["NCR"]
    if re.search(r"\benhanc", text) or "et" in words:
        return LABELS["ET"]
    return None


def to_canonical(mask: NDArray[np.float32], codes: LabelCodes, name: str) -> NDArray[np.uint8]:
    """Translate a mask.

    Args:
        mask: Values as read, any shape; whole numbers, possibly stored as floats.
        codes: Meaning of the values.
        name: The file, for messages.

    Returns:
        Canonical labels, same shape.

    Raises:
        UserError: A value is not a whole number or not one of the layout's.
    """
    if not np.isfinite(mask).all():
        raise UserError(f"{name} is a mask with NaN or infinite voxels. Replace it by the original mask.")
    whole = np.rint(mask)
    off = np.abs(mask - whole) > 1e-3
    if off.any():
        raise UserError(
            f"{name} is a mask with values that are no whole numbers ({float(mask[off][0]):g} and others in {int(off.sum())} "
            "voxels): it was probably resampled with interpolation. Resample it with nearest neighbors."
        )
    values, counts = np.unique(whole.astype(np.int64), return_counts=True)
    unknown = [(int(v), int(c)) for v, c in zip(values, counts, strict=True) if int(v) not in codes.values]
    if unknown:
        found = ", ".join(f"{v} ({c} voxels)" for v, c in unknown[:5])
        raise UserError(
            f"{name} holds unknown label values: {found}. The masks of {codes.layout} hold {codes.meaning}. {codes.hint}"
        )
    labels = np.zeros(mask.shape, dtype=np.uint8)
    for source, target in codes.values.items():
        if target:
            labels[whole == source] = target
    return labels
