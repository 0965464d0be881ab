"""Pictures of parts, and what a camera sends of them."""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple


class Frames(NamedTuple):
    """What a camera of one kind sends."""

    width: int
    height: int
    pixels: str  # as V4L2 calls it


def frame_of(path: Path) -> tuple[Frames, bytes]:
    """A picture as a camera sends it: JPEG as it is, other pictures uncompressed."""
    if path.suffix in (".jpg", ".jpeg"):
        data = path.read_bytes()
        return Frames(*size_of_jpeg(data), "MJPG"), data
    width, height, data = yuyv_from_png(path)
    return Frames(width, height, "YUYV"), data


def size_of_jpeg(data: bytes) -> tuple[int, int]:
    """Width and height."""
    at = 2
    while at < len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in (0xFFC0, 0xFFC1, 0xFFC2):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    raise ValueError("a JPEG picture without a size")


def yuyv_from_png(path: Path) -> tuple[int, int, bytes]:
    """Width, height and YUYV pixels of a gray PNG of 8 bits, which is what the demo's pictures are."""
    data = path.read_bytes()
    width, height, kind, compressed, at = 0, 0, b"", b"", 8
    while at < len(data):
        length, chunk = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if chunk == b"IHDR":
            width, height, *kind = struct.unpack(">IIBBBBB", body)
        elif chunk == b"IDAT":
            compressed += body
        at += 12 + length
    if kind != [8, 0, 0, 0, 0]:
        raise ValueError(f"{path} is no gray PNG of 8 bits")
    lines = zlib.decompress(compressed)
    above = bytearray(width)
    frame = bytearray(b"\x80" * (width * height * 2))
    for y in range(height):
        rule, *line = lines[y * (width + 1) : (y + 1) * (width + 1)]
        for x in range(width):
            left = line[x - 1] if x else 0
            up, corner = above[x], above[x - 1] if x else 0
            line[x] = line[x] + predicted(rule, left, up, corner) & 255
        above = line
        frame[y * width * 2 : (y + 1) * width * 2 : 2] = bytes(line)
    return width, height, bytes(frame)


def predicted(rule: int, left: int, up: int, corner: int) -> int:
    """PNG's guess of a pixel from its neighbors."""
    if rule == 4:
        guess = left + up - corner
        distances = [abs(guess - left), abs(guess - up), abs(guess - corner)]
        return [left, up, corner][distances.index(min(distances))]
    return [0, left, up, (left + up) // 2][rule]
