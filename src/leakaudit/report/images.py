"""Grayscale PNG images inside `report.json`: written and checked by hand, so that no metadata can travel with them."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator, Sequence

__all__ = ["WARNING", "check_png", "encode_png", "marked"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ALLOWED = (b"IHDR", b"IDAT", b"IEND")

WARNING = "CONTAINS PATIENT IMAGES"
"""What a page with images of real patients says on every sheet, and every such image in its own pixels."""

_GLYPHS = {
    "A": "010101111101101", "C": "111100100100111", "E": "111100110100111", "G": "111100101101111", "I": "111010010010111",
    "M": "101111111101101", "N": "110101101101101", "O": "111101101101111", "P": "111101111100100", "S": "111100111001111",
    "T": "111010010010010", " ": "000000000000000",
}  # fmt: skip
"""Letters of the warning, three pixels wide and five high, row by row."""


def encode_png(rows: Sequence[Sequence[float]]) -> str:
    """Return a grayscale image as base64 PNG (8 bits, no metadata).

    Args:
        rows: Intensities, shape (H, W), full range [0, 1]; values outside are cut. Nested lists or a 2D array.

    Raises:
        ValueError: The image is empty or its rows differ in length.
    """
    height, width = len(rows), len(rows[0]) if len(rows) else 0
    if not width or any(len(row) != width for row in rows):
        raise ValueError("an image needs at least one pixel and rows of one length")
    # Filter 1 (difference to the left neighbor) halves the size of smooth images.
    raw = bytearray()
    for row in rows:
        levels = [round(255 * min(1.0, max(0.0, float(value)))) for value in row]
        raw.append(1)
        raw.extend((b - a) % 256 for a, b in zip([0, *levels], levels, strict=False))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(raw), 9)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return base64.b64encode(_SIGNATURE + body).decode("ascii")


def marked(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return an image with the warning written below it, so that it warns wherever it is copied to.

    Args:
        rows: Intensities, shape (H, W), full range [0, 1].

    Returns:
        Shape (H + h, max(W, 33)); h depends on whether the warning fits into one line.
    """
    image = [[float(value) for value in row] for row in rows]
    width = max((len(row) for row in image), default=0)
    lines = [WARNING] if width >= 4 * len(WARNING) + 1 else WARNING.split()
    width = max(width, *(4 * len(line) + 1 for line in lines))
    strip = [[0.0] * width]
    for line in lines:
        strip += [_pixels(line, level, width) for level in range(5)] + [[0.0] * width]
    return [row + [0.0] * (width - len(row)) for row in image] + strip


def _pixels(line: str, level: int, width: int) -> list[float]:
    """Return one row of pixels of a line of text, padded to `width`."""
    bits = "0" + "".join(f"{_GLYPHS[letter][3 * level : 3 * level + 3]}0" for letter in line)
    return [float(bit) for bit in bits] + [0.0] * (width - len(bits))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def check_png(text: str) -> None:
    """Check that `text` is a base64 grayscale PNG that carries pixels and nothing else.

    Raises:
        ValueError: It is not, or it has a chunk (text, EXIF, time, ...) that could hold an identifier.
    """
    try:
        data = base64.b64decode(text, validate=True)
        if not data.startswith(_SIGNATURE):
            raise ValueError("an image must be a base64 PNG")
        chunks = list(_chunks(data))
    except (binascii.Error, struct.error) as error:
        raise ValueError("an image must be a base64 PNG") from error
    for kind, _ in chunks:
        if kind not in _ALLOWED:
            raise ValueError(f"an image of a report carries pixels only; chunk {kind.decode('latin-1')!r} is not allowed")
    if [chunks[0][0], chunks[-1][0]] != [b"IHDR", b"IEND"] or chunks[0][1][9] != 0:
        raise ValueError("an image of a report must be a grayscale PNG")
