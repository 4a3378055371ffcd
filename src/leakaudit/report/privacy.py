"""What keeps identifiers out of a report: salted pseudonyms, sanitized text, and words that a run must not repeat."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import unquote

from leakaudit.report.base import Part

__all__ = ["IDENTIFIER", "Identifiers", "every_text", "pseudonym", "sanitize"]

IDENTIFIER = "<identifier>"
"""What stands in place of a word that must not be repeated."""

P = TypeVar("P", bound=Part)

_SUFFIXES = r"(?:nii(?:\.gz)?|dcm|mha|mhd|nrrd|npy|npz|pt|pth|safetensors|json|csv|xlsx?)\b"
_SEGMENT = r"[^\s\\/'\";:<>](?:[^\\/\n'\";:<>]*[^\s\\/'\";:<>])?"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"

_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://\S+"), "<address>"),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,80}@[\w-]+\.[\w.-]+"), "<address>"),
    (re.compile(r"(['\"])(?:[A-Za-z]:|~)?[\\/][^'\"\n]*\1"), r"\1<path>\1"),
    # Names of folders may hold blanks: a path goes on as long as another separator follows.
    (re.compile(rf"(?<![^\s'\"(\[=:,;])(?:[A-Za-z]:|~)?[\\/](?=[^\s\\/])(?:{_SEGMENT}[\\/])*[^\s'\";:<>]*"), "<path>"),
    # A file of images: everything before its suffix may be its name, back to the last mark that no name holds.
    (re.compile(r"(?<![^\n'\"<>:;])([\s(]*)[^\n'\"<>:;]*[^\s'\"<>:;(,]\.(?:nii(?:\.gz)?|dcm|mha|mhd|nrrd)\b", re.I), r"\1<file>"),
    (re.compile(rf"(?<![^\s'\",;:()<>\\/])[^\s'\",;:()<>\\/]+\.{_SUFFIXES}", re.I), "<file>"),
    (re.compile(r"(?<![^\s'\",;:()>])[^\s'\",;:()<>\\/]+[\\/][^\s'\",;()<>]*\.[A-Za-z]\w*"), "<path>"),
    (re.compile(r"\b\d+(?:\.\d+){4,}\b"), "<uid>"),
    (re.compile(r"\b(?:array|tensor|Tensor|Parameter)\(.*", re.S), "<values>"),
    (re.compile(r"\[[\s\d.,eE+\-\[\]]{40,}\]?"), "<values>"),
    (re.compile(rf"(?:{_NUMBER}[\s,;|]+){{8,}}{_NUMBER}"), "<values>"),
    (re.compile(r"\b[^\W\d_]{2,}\^[^\W\d_]+(?:\^\w*)*"), "<name>"),  # names as DICOM writes them
    (re.compile(r"\b(?:\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./](?:\d{4}|\d{2}))\b"), "<date>"),
    (re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,}={0,2}"), lambda m: _unless_words(m.group())),
    (re.compile(r"\b\d{6,}\b"), "<number>"),
)
_LONGEST_READ = 1500
_HELD = "\ue000"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_CHUNK = re.compile(r"[^\W_]+")


def pseudonym(salt: bytes, patient: str) -> str:
    """Return the pseudonym of a patient in one run.

    HMAC-SHA256 (RFC 2104) of the patient's key, cut to 32 bits: without the salt nobody can try out keys, and whoever has the
    salt could confirm a guess, which is why pruning what is sensitive removes it.

    Args:
        salt: Random bytes of this run, at least 16; they never leave the run's folder.
        patient: The cohort's own key of the patient.

    Raises:
        ValueError: The salt is so short that identifiers could be tried out one by one.
    """
    if len(salt) < 16:
        raise ValueError("the salt of pseudonyms needs at least 16 random bytes")
    return "P-" + hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:8]


class Identifiers:
    """Words that a run must not repeat: keys of patients, names of files, folders and hospitals.

    They are found whatever their case, and whatever separates their parts ("Doe, Jane" in "DOE_JANE_t1").

    Args:
        words: What stands in place of each word.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = {_plain(w): r for w, r in words.items() if _CHUNK.search(_plain(w))}
        self._certain = _matcher(w for w in self._words if _is_certain(w))
        self._all = _matcher(self._words)
        self._by_chunks = {_chunks(w): r for w, r in self._words.items()}

    def remove(self, text: str, *, thorough: bool = False) -> str:
        """Return a text without the words.

        Args:
            text: Any text.
            thorough: Also remove words that stand for something else more often than not, such as the patient key `7`.
        """
        matcher = self._all if thorough else self._certain
        if matcher is None:
            return text
        return matcher.sub(lambda m: self._by_chunks.get(_chunks(m.group()), IDENTIFIER), unicodedata.normalize("NFC", text))

    def replacement(self, text: str) -> str:
        """Return what stands in place of a text that is one of the words as a whole; any other text as it is."""
        return self._words.get(_plain(text), text)

    def occur_in(self, text: str) -> bool:
        """Whether a text holds one of the words that stand for nothing else."""
        return self._certain is not None and self._certain.search(unicodedata.normalize("NFC", text)) is not None


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word).strip()


def _chunks(word: str) -> str:
    return " ".join(_CHUNK.findall(word.casefold()))


def _is_certain(word: str) -> bool:
    """Whether a word is long enough to stand for a patient wherever it occurs."""
    letters = "".join(_CHUNK.findall(word))
    return len(letters) >= 4 or (len(letters) == 3 and not letters.isalpha() and not letters.isdigit())


def _matcher(words: Iterable[str]) -> re.Pattern[str] | None:
    forms = {r"[\W_]{1,3}".join(re.escape(chunk) for chunk in _CHUNK.findall(word)) for word in words}
    if not forms:
        return None
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(longest_first)})(?![^\W_])", re.IGNORECASE)


@lru_cache(maxsize=16)
def _identifiers(known: tuple[str, ...]) -> Identifiers:
    return Identifiers(dict.fromkeys(known, IDENTIFIER))


def sanitize(text: str, *, known: tuple[str, ...] | Identifiers = (), thorough: bool = False, limit: int = 400) -> str:
    """Return `text` without addresses, paths, file names, dates, DICOM names and UIDs, codes, long numbers and printed arrays.

    Args:
        text: For example the message of an exception.
        known: Identifiers that the run knows (patients, files); they are removed wherever they occur.
        thorough: Also remove those of them that are short, such as the patient key `7`.
        limit: Longest text returned, in characters.
    """
    text = text[: _LONGEST_READ + limit]
    words = known if isinstance(known, Identifiers) else _identifiers(tuple(known))
    text = _ESCAPED.sub(lambda m: unquote(m.group()), text)
    # To the patterns a removed word is still part of the name of a file or folder, which its final form would cut in two.
    text = words.remove(text, thorough=thorough).replace(IDENTIFIER, _HELD)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = " ".join(_CONTROL.sub(" ", text.replace(_HELD, IDENTIFIER)).split())
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def _unless_words(text: str) -> str:
    """Return a long run of letters and digits only if it reads like words; base64 and digests may spell a name out."""
    looks_coded = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    pieces = [piece for piece in re.split(r"[+/_-]", text.rstrip("=")) if piece]
    return "<code>" if looks_coded and max(map(len, pieces), default=0) >= 16 else text


def every_text(part: P, change: Callable[[str], str]) -> P:
    """Return a part of the report with all its free texts changed.

    Words of a fixed vocabulary, keys of tables, digests, times, versions, pseudonyms and images stay as they are.
    """
    fields = type(part).model_fields
    free = [name for name in fields if name not in _FIXED and not _is_vocabulary(fields[name].annotation)]
    return part.model_copy(update={name: _deep(getattr(part, name), change) for name in free})


_FIXED = frozenset({"sha256", "created", "schema_version", "leakaudit_version", "version", "packages", "patient"})
_PNG = "iVBORw0KGgo"
"""How every PNG in base64 starts."""


def _is_vocabulary(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or any(_is_vocabulary(a) for a in get_args(annotation))


def _deep(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Part):
        return every_text(value, change)
    if isinstance(value, str):
        return value if value.startswith(_PNG) else change(value)
    if isinstance(value, list | tuple):
        return [_deep(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _deep(item, change) for key, item in value.items()}
    return value
