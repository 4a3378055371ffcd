"""What keeps identifiers out of a report: salted pseudonyms and sanitized text."""

from __future__ import annotations

import hashlib
import hmac
import re

__all__ = ["pseudonym", "sanitize"]

_PATTERNS = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+"), "<address>"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "<address>"),
    (re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/~][^\s'\",;:()<>]*[\\/][^\s'\",;:()<>]*"), "<path>"),
    (re.compile(r"(?<![\w<])[^\s'\",;:()<>\\/]+[\\/][^\s'\",;()<>]*\.\w+"), "<path>"),
    (re.compile(r"[^\s'\",;:()<>\\/]+\.(?:nii(?:\.gz)?|dcm|mha|nrrd|npy|npz|pt|safetensors)\b", re.I), "<file>"),
    (re.compile(r"\b\d+(?:\.\d+){4,}\b"), "<uid>"),
    (re.compile(r"(?:array|tensor)\(.*", re.S), "<values>"),
    (re.compile(r"\[[\s\d.,eE+\-\[\]]{40,}\]?"), "<values>"),
    (re.compile(r"\b\d{6,}\b"), "<number>"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def pseudonym(salt: bytes, patient: str) -> str:
    """Return the pseudonym of a patient in one run.

    Args:
        salt: Random bytes of this run, at least 16; they never leave the run's folder.
        patient: The cohort's own key of the patient.

    Raises:
        ValueError: The salt is so short that identifiers could be tried out one by one.
    """
    if len(salt) < 16:
        raise ValueError("the salt of pseudonyms needs at least 16 random bytes")
    return "P-" + hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:8]


def sanitize(text: str, *, known: tuple[str, ...] = (), limit: int = 400) -> str:
    """Return `text` without addresses, paths, file names, DICOM UIDs, long numbers and printed arrays.

    Args:
        text: For example the message of an exception.
        known: Identifiers that the run knows (patients, files); they are removed wherever they occur.
        limit: Longest text returned, in characters.
    """
    for word in sorted((w for w in known if w), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "<identifier>", text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = " ".join(_CONTROL.sub(" ", text).split())
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
