"""Components and the boxes round them, against brute force."""

import numpy as np
import pytest

from weakrest_export import shapes


def flood(bits: np.ndarray, gap: int) -> list[set[tuple[int, int]]]:
    """Components by visiting, pixel by pixel, all pixels with at most `gap` others between."""
    left = {(int(y), int(x)) for y, x in np.argwhere(bits)}
    found = []
    while left:
        todo, seen = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            seen.add((y, x))
            near = {(v, u) for v, u in left if abs(v - y) <= gap + 1 and abs(u - x) <= gap + 1}
            left -= near
            todo += near
        found.append(seen)
    return found


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_components_against_flooding(seed: int, gap: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.random((20, 30)) < rng.choice([0.01, 0.05, 0.3])
    got = sorted(shapes.upright_box(points) for points in shapes.components(bits, gap))
    expected = []
    for pixels in flood(bits, gap):
        y, x = np.array(sorted(pixels)).T
        expected.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    assert got == sorted(expected)


def test_no_defect_no_component() -> None:
    assert shapes.components(np.zeros((4, 4), dtype=bool), 2) == []


@pytest.mark.parametrize("seed", range(10))
def test_smallest_box_holds_all_and_no_turned_one_is_smaller(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.zeros((40, 40), dtype=bool)
    y, x = rng.integers(5, 35, (2, 12))
    bits[y, x] = True
    [points] = shapes.components(bits, 40)
    corners = shapes.smallest_box(points)
    u, v = corners[1] - corners[0], corners[3] - corners[0]
    assert u @ v == pytest.approx(0, abs=1e-9)
    pixels = np.concatenate([np.argwhere(bits)[:, ::-1] + d for d in ([0, 0], [1, 0], [0, 1], [1, 1])])
    for side in (u, v):
        along = (pixels - corners[0]) @ side / (side @ side)
        assert along.min() == pytest.approx(0, abs=1e-9)
        assert along.max() == pytest.approx(1, abs=1e-9)
    area = np.hypot(*u) * np.hypot(*v)
    for degrees in np.arange(0, 90, 0.25):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = pixels @ np.array([[cos, sin], [-sin, cos]])
        assert area <= np.prod(np.ptp(turned, axis=0)) + 1e-9


def test_one_pixel_has_a_box() -> None:
    bits = np.zeros((5, 5), dtype=bool)
    bits[2, 3] = True
    [points] = shapes.components(bits, 3)
    assert sorted(map(tuple, shapes.smallest_box(points).round(9))) == [(3, 2), (3, 3), (4, 2), (4, 3)]


@pytest.mark.parametrize(
    ("corners", "convex"),
    [
        ([[0, 0], [9, 0], [9, 9], [0, 9]], True),
        ([[0, 9], [9, 9], [9, 0], [0, 0]], True),
        ([[0, 0], [9, 1], [12, 9], [-3, 7]], True),
        ([[0, 0], [9, 9], [9, 0], [0, 9]], False),
        ([[0, 0], [9, 0], [2, 2], [0, 9]], False),
        ([[0, 0], [9, 0], [4, 0], [4, 5]], False),
        ([[0, 0], [9, 0], [9, 0], [0, 9]], False),
    ],
)
def test_convex(corners: list[list[float]], convex: bool) -> None:
    assert shapes.is_convex(corners) is convex
