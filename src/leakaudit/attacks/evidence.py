"""What an attack returns: images, masks, scores or values, each about named targets. A closed sum type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leakaudit.threats import Channel

__all__ = ["Evidence", "EvidenceError", "Images", "Masks", "Scores", "Target", "Values", "load_evidence", "save_evidence"]


class EvidenceError(ValueError):
    """Evidence that cannot be scored: missing targets, wrong shapes, values that are not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something an attack is scored on.

    Attributes:
        token: Opaque name.
        kind: `"sample"`: rows of messages carry the token; `"candidate"`: a patient whose membership is asked;
            `"message"`: a whole update whose samples are unknown; the message has the token as its only sample.
        size: How many samples are behind it.
        position: Slice position where it is public (parties that align samples know it), else 0.
    """

    token: str
    kind: Literal["sample", "candidate", "message"] = "sample"
    size: int = 1
    position: int = 0


@dataclass(frozen=True, kw_only=True)
class _About:
    """What every piece of evidence says.

    Attributes:
        name: Names the endpoint within the attack, for example `"client-0/level1"`.
        channel: Channel it was taken from.
        about: Token of the target of each row.
        seat: Seat whose data it is about, where there is one.
        level: Level it was taken from, where there is one.
        round: Round whose messages it was taken from; None for the last ones, or where several rounds count together.
    """

    name: str
    channel: Channel
    about: tuple[str, ...]
    seat: str | None = None
    level: str | None = None
    round: int | None = None

    def __post_init__(self) -> None:
        array = self.array
        where = f"evidence {self.name!r}"
        if len(array) != len(self.about):
            raise EvidenceError(f"{where} has {len(array)} rows about {len(self.about)} targets")
        if self.round is not None and self.round < 0:
            raise EvidenceError(f"{where} has round {self.round}: give the number of the round, or None for the last messages")
        if not np.isfinite(array).all():
            raise EvidenceError(f"{where} has values that are not finite")

    @property
    def array(self) -> NDArray[np.float32]:
        """The rows."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Images(_About):
    """Reconstructed images.

    Attributes:
        images: float32, (rows, modalities, *spatial), in the units of the cohort (z-scores inside the brain).
        modalities: Names of the channels.
        ordered: Whether row i is about `about[i]`; False where a target holds several samples in unknown order.
    """

    images: NDArray[np.float32]
    modalities: tuple[str, ...]
    ordered: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images.ndim not in (4, 5) or self.images.shape[1] != len(self.modalities):
            raise EvidenceError(
                f"evidence {self.name!r}: images of shape {self.images.shape}, expected (rows, {len(self.modalities)}, *spatial)"
            )

    @property
    def array(self) -> NDArray[np.float32]:
        """The images."""
        return self.images


@dataclass(frozen=True, kw_only=True)
class Masks(_About):
    """Reconstructed region masks.

    Attributes:
        masks: float32 in [0, 1], (rows, 3, *spatial), regions in the order of `leakaudit.cohorts.REGIONS`.
        ordered: As in `Images`.
    """

    masks: NDArray[np.float32]
    ordered: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks.ndim not in (4, 5) or self.masks.shape[1] != 3:
            raise EvidenceError(f"evidence {self.name!r}: masks of shape {self.masks.shape}, expected (rows, 3, *spatial)")

    @property
    def array(self) -> NDArray[np.float32]:
        """The masks."""
        return self.masks


@dataclass(frozen=True, kw_only=True)
class Scores(_About):
    """Membership scores; higher means member.

    Attributes:
        scores: float32, (rows,).
    """

    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scores.ndim != 1:
            raise EvidenceError(f"evidence {self.name!r}: scores of shape {self.scores.shape}, expected one per target")

    @property
    def array(self) -> NDArray[np.float32]:
        """The scores."""
        return self.scores


@dataclass(frozen=True, kw_only=True)
class Values(_About):
    """Guessed properties.

    Attributes:
        values: float32, (rows,).
        quantity: What is guessed: `"tumor-volume"` is the share of brain voxels in the whole tumor.
    """

    values: NDArray[np.float32]
    quantity: Literal["tumor-volume"] = "tumor-volume"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values.ndim != 1:
            raise EvidenceError(f"evidence {self.name!r}: values of shape {self.values.shape}, expected one per target")

    @property
    def array(self) -> NDArray[np.float32]:
        """The values."""
        return self.values


Evidence = Images | Masks | Scores | Values
_KINDS: dict[str, type[Evidence]] = {"images": Images, "masks": Masks, "scores": Scores, "values": Values}


def save_evidence(folder: Path, evidence: Sequence[Evidence]) -> None:
    """Write evidence as `evidence.json` and one `.npy` per piece."""
    listing: list[dict[str, Any]] = []
    for i, piece in enumerate(evidence):
        kind = next(k for k, cls in _KINDS.items() if isinstance(piece, cls))
        entry = {f.name: getattr(piece, f.name) for f in fields(piece) if f.name != kind}
        np.save(folder / f"evidence-{i}.npy", np.asarray(piece.array, dtype=np.float32))
        listing.append({"kind": kind, **entry})
    (folder / "evidence.json").write_text(json.dumps(listing))


def load_evidence(folder: Path) -> list[Evidence]:
    """Read what `save_evidence` wrote.

    Raises:
        EvidenceError: A file is missing or does not fit.
    """
    try:
        listing = json.loads((folder / "evidence.json").read_text())
        pieces: list[Evidence] = []
        for i, entry in enumerate(listing):
            kind = entry.pop("kind")
            entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
            entry[kind] = np.load(folder / f"evidence-{i}.npy", allow_pickle=False)
            pieces.append(_KINDS[kind](**entry))
    except (OSError, KeyError, TypeError) as error:
        raise EvidenceError(f"evidence is unreadable: {type(error).__name__}") from error
    return pieces
