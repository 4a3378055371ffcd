"""One sentence for an exception: enough to find the place, with neither patient data nor paths of the machine.

Two forms: `sentence` has the exception's own words, cleaned. `public_sentence` has them only where leakaudit itself chose
them: what other code says of real patients may name them in ways that nobody can foresee.
"""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

from leakaudit.plugins.loading import FIRST_PARTY

__all__ = ["public_sentence", "sentence", "withholding"]

_LONGEST = 300
_LONGEST_READ = 4000
_LIBRARIES = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "scipy", "monai", "skimage", "nibabel", "opacus"}
_OURS = frozenset(name.replace("-", "_") for name in FIRST_PARTY)
_SEGMENT = r"[^\s\\/'\";:()\[\]<>](?:[^\\/\n'\";:()\[\]<>]*[^\s\\/'\";:()\[\]<>])?"
_PATH = re.compile(rf"(?<![\w.])(?:~|[A-Za-z]:)?[\\/](?:{_SEGMENT}[\\/])*[^\s\\/'\",;:()\[\]<>]+")
_ARRAY = re.compile(r"\b(tensor|array|Tensor|Parameter)\(.*", re.DOTALL)
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_RUN = re.compile(rf"(?:{_NUMBER.pattern}[\s,;|]+){{8,}}{_NUMBER.pattern}")
_LONG_SHAPE = 8
_withheld: ContextVar[bool] = ContextVar("withheld", default=False)


def sentence(error: BaseException) -> str:
    """Describe an exception as `Type: message (module.py:line in function)`.

    The message loses printed tensors and arrays, lists of decimals or of more than eight numbers, and folders of paths;
    the place is the innermost one outside common libraries. Within `withholding`, this is `public_sentence`.
    """
    if _withheld.get():
        return public_sentence(error)
    return _join(error, _clean(_words(error)))


def public_sentence(error: BaseException) -> str:
    """Describe an exception as `sentence` does, without the words of code that is not leakaudit's.

    An exception that passes on what other code said brings the form without it as its attribute `public`.
    """
    passed_on = getattr(error, "public", None)
    if isinstance(passed_on, str):
        return _join(error, passed_on)
    return _join(error, _clean(_words(error)) if _is_ours(error) else "")


@contextlib.contextmanager
def withholding(withheld: bool = True) -> Iterator[None]:
    """Let `sentence` withhold the words of other code: for real patients that are not public."""
    token = _withheld.set(withheld)
    try:
        yield
    finally:
        _withheld.reset(token)


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - foreign code may not even be able to say what is wrong
        return ""


def _join(error: BaseException, message: str) -> str:
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place(error)
    return f"{text} ({place})" if place else text


def _clean(message: str) -> str:
    message = "".join(c if c.isprintable() or c.isspace() else " " for c in message[:_LONGEST_READ])
    message = _ARRAY.sub(r"\1(...)", message)
    before = None
    while before != message:  # From the innermost brackets outward.
        before = message
        message = _BRACKETS.sub(_shorten, message)
    message = _RUN.sub("...", message.replace("\0", "[").replace("\1", "]"))
    message = _PATH.sub(lambda match: re.split(r"[\\/]", match.group())[-1], message)
    message = " ".join(message.split())
    return message if len(message) <= _LONGEST else message[: _LONGEST - 3] + "..."


def _shorten(match: re.Match[str]) -> str:
    """Keep short lists (shapes, names) and hide data; kept brackets are masked so that the search ends."""
    inside = match.group()[1:-1]
    numbers = _NUMBER.findall(inside)
    is_data = len(numbers) > _LONG_SHAPE or any(not number.lstrip("+-").isdigit() for number in numbers)
    return "\0...\1" if is_data else f"\0{inside}\1"


def _place(error: BaseException) -> str:
    """Innermost frame that is not in a library, as `module.py:line in function`."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return ""
    own = [pair for pair in frames if _package(pair[0]) not in _LIBRARIES]
    frame, line = (own or frames)[-1]
    return f"{Path(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"


def _is_ours(error: BaseException) -> bool:
    """Whether leakaudit or a plugin that is maintained with it raised an exception itself, and so chose its words."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and _package(frames[-1][0]) in _OURS


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".")[0]
