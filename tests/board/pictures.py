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
    width, height, channels, pixels = read_png(path)
    if channels != 1:
        raise ValueError(f"{path} is no gray PNG")
    frame = bytearray(b"\x80" * (width * height * 2))
    frame[::2] = pixels
    return width, height, bytes(frame)


def read_png(path: Path) -> tuple[int, int, int, bytes]:
    """Width, height, channels and pixels of a PNG of 8 bits, gray or RGB."""
    data = path.read_bytes()
    width, height, kind, compressed, at = 0, 0, [], b"", 8
    while at < len(data):
        length, chunk = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if chunk == b"IHDR":
            width, height, *kind = struct.unpack(">IIBBBBB", body)
        elif chunk == b"IDAT":
            compressed += body
        at += 12 + length
    if kind not in ([8, 0, 0, 0, 0], [8, 2, 0, 0, 0]):
        raise ValueError(f"{path} is no PNG of 8 bits, gray or RGB")
    channels = 1 if kind[1] == 0 else 3
    wide = width * channels
    lines = zlib.decompress(compressed)
    above = [0] * wide
    pixels = bytearray()
    for y in range(height):
        rule, *line = lines[y * (wide + 1) : (y + 1) * (wide + 1)]
        for x in range(wide):
            left = line[x - channels] if x >= channels else 0
            up, corner = above[x], above[x - channels] if x >= channels else 0
            line[x] = line[x] + predicted(rule, left, up, corner) & 255
        above = line
        pixels += bytes(line)
    return width, height, channels, bytes(pixels)


def predicted(rule: int, left: int, up: int, corner: int) -> int:
    """PNG's guess of a pixel from its neighbors."""
    if rule == 4:
        guess = left + up - corner
        distances = [abs(guess - left), abs(guess - up), abs(guess - corner)]
        return [left, up, corner][distances.index(min(distances))]
    return [0, left, up, (left + up) // 2][rule]
