"""What a camera's raw pixels mean, written down once more, slowly, to compare with."""

from collections.abc import Callable, Iterator

Pixel = tuple[float, ...]


def clamped(value: float) -> float:
    return min(255.0, max(0.0, value))


def rgb_of_yuv(y: int, u: int, v: int) -> Pixel:
    """BT.601 with the limited range."""
    bright = (y - 16) * 255 / 219
    blue, red = (u - 128) * 255 / 224, (v - 128) * 255 / 224
    green = bright - 0.344136 * blue - 0.714136 * red
    return tuple(map(clamped, (bright + 1.402 * red, green, bright + 1.772 * blue)))


def of_planes(raw: bytes, width: int, height: int, third: bool, swapped: bool) -> Iterator[Pixel]:
    """Brightness, then the colors of 2×2 pixels."""
    size = width * height
    for y in range(height):
        for x in range(width):
            at = y // 2 * (width // 2) + x // 2
            chroma = (size + at, size + size // 4 + at) if third else (size + 2 * at, size + 2 * at + 1)
            u, v = (raw[i] for i in (reversed(chroma) if swapped else chroma))
            yield rgb_of_yuv(raw[y * width + x], u, v)


def of_pairs(raw: bytes, width: int, height: int, first: int) -> Iterator[Pixel]:
    """YUYV (0), UYVY (1)."""
    for at in range(0, width * height * 2, 4):
        quad = raw[at : at + 4]
        u, v = quad[1 - first], quad[3 - first]
        for y in (quad[first], quad[2 + first]):
            yield rgb_of_yuv(y, u, v)


def of_samples(raw: bytes, width: int, height: int, bits: int) -> Iterator[Pixel]:
    """Brightness in 16 bits, of which so many are used."""
    for at in range(0, width * height * 2, 2):
        yield ((raw[at] + 256 * raw[at + 1]) * 255 / (2**bits - 1),)


def of_sensor(raw: bytes, width: int, height: int, order: str, bits: int) -> Iterator[Pixel]:
    """A color per pixel; the others are means of the neighbors that have them."""
    each = 1 if bits == 8 else 2

    def value(x: int, y: int) -> float:
        at = (y * width + x) * each
        return int.from_bytes(raw[at : at + each], "little") * 255 / (2**bits - 1)

    def mirrored(at: int, side: int) -> int:
        return 1 if at < 0 else side - 2 if at >= side else at

    def color(x: int, y: int) -> str:
        return order[y % 2 * 2 + x % 2]

    around = [(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    for y in range(height):
        for x in range(width):
            pixel = []
            for wanted in "rgb":
                if color(x, y) == wanted:
                    pixel.append(value(x, y))
                    continue
                near = [(mirrored(x + dx, width), mirrored(y + dy, height)) for dx, dy in around]
                found = [value(*at) for at in near if color(*at) == wanted]
                pixel.append(sum(found) / len(found))
            yield tuple(pixel)


Meaning = Callable[[bytes, int, int], Iterator[Pixel]]

# weakrest's name, the kernel's codes in the order in which weakrest prefers them, and what the bytes mean.
FORMATS: list[tuple[str, list[str], Meaning]] = [
    ("nv12", ["NM12", "NV12"], lambda raw, w, h: of_planes(raw, w, h, False, False)),
    ("nv21", ["NM21", "NV21"], lambda raw, w, h: of_planes(raw, w, h, False, True)),
    ("yuv420", ["YM12", "YU12"], lambda raw, w, h: of_planes(raw, w, h, True, False)),
    ("yvu420", ["YM21", "YV12"], lambda raw, w, h: of_planes(raw, w, h, True, True)),
    ("yuyv", ["YUYV"], lambda raw, w, h: of_pairs(raw, w, h, 0)),
    ("uyvy", ["UYVY"], lambda raw, w, h: of_pairs(raw, w, h, 1)),
    ("y10", ["Y10 "], lambda raw, w, h: of_samples(raw, w, h, 10)),
    ("y12", ["Y12 "], lambda raw, w, h: of_samples(raw, w, h, 12)),
    ("y16", ["Y16 "], lambda raw, w, h: of_samples(raw, w, h, 16)),
    ("bayer_rggb8", ["RGGB"], lambda raw, w, h: of_sensor(raw, w, h, "rggb", 8)),
    ("bayer_grbg10", ["BA10"], lambda raw, w, h: of_sensor(raw, w, h, "grbg", 10)),
    ("bayer_gbrg12", ["GB12"], lambda raw, w, h: of_sensor(raw, w, h, "gbrg", 12)),
    ("bayer_bggr16", ["BYR2"], lambda raw, w, h: of_sensor(raw, w, h, "bggr", 16)),
]
