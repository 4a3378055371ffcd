"""One sentence for an exception: enough to find the place, with neither patient data nor paths of the machine."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

__all__ = ["sentence"]

_LONGEST = 300
_LIBRARIES = frozenset(sys.stdlib_module_names) | {"torch", "numpy", "scipy", "monai", "skimage", "nibabel", "opacus"}
_PATH = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?(?:[\\/][^\s\\/'\",;:()\[\]<>]+)+")
_ARRAY = re.compile(r"\b(tensor|array|Tensor|Parameter)\(.*", re.DOTALL)
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LONG_SHAPE = 8


def sentence(error: BaseException) -> str:
    """Describe an exception as `Type: message (module.py:line in function)`.

    The message loses printed tensors and arrays, lists of decimals or of more than eight numbers, and folders of paths;
    the place is the innermost one outside common libraries.
    """
    message = _clean(str(error))
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place(error)
    return f"{text} ({place})" if place else text


def _clean(message: str) -> str:
    message = _ARRAY.sub(r"\1(...)", message)
    before = None
    while before != message:  # From the innermost brackets outward.
        before = message
        message = _BRACKETS.sub(_shorten, message)
    message = message.replace("\0", "[").replace("\1", "]")
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
    own = [pair for pair in frames if str(pair[0].f_globals.get("__name__", "")).split(".")[0] not in _LIBRARIES]
    frame, line = (own or frames)[-1]
    return f"{Path(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"
