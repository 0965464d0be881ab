"""Mask files, the same that the program's tests read."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakrest_export import labels, mask_files
from weakrest_export.errors import ExportError
from weakrest_export.labels import Label, Mask

FILES = Path(__file__).parents[2] / "tests" / "data" / "masks"


def files(kind: str) -> list[Path]:
    found = sorted((FILES / kind).iterdir())
    assert found
    return found


@pytest.mark.parametrize("path", files("clear"), ids=lambda path: path.name)
def test_reads_what_is_clear(path: Path) -> None:
    dent = np.zeros((40, 40), np.bool_)
    dent[10:20, 10:20] = True
    assert (mask_files.read(path) == dent).all()


@pytest.mark.parametrize("path", files("empty"), ids=lambda path: path.name)
def test_reads_what_marks_nothing(path: Path) -> None:
    assert not mask_files.read(path).any()


@pytest.mark.parametrize("path", files("unclear"), ids=lambda path: path.name)
def test_refuses_what_is_not_clear(path: Path) -> None:
    with pytest.raises(ExportError, match=rf"{path.name}.*white defects.*non-zero"):
        mask_files.read(path)


def test_every_number_counts_where_that_is_said() -> None:
    assert mask_files.read(FILES / "unclear" / "wide-classes.png", "non-zero").sum() == 200


def test_colors_of_16_bits_are_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = chunk(b"IHDR", (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0]))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + b"\0\1" * 12) * 4))
    path = tmp_path / "mask.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    with pytest.raises(ExportError, match=r"mask\.png: 16 bits per color"):
        mask_files.read(path)


def test_masks_that_all_look_inverted_are_refused(tmp_path: Path) -> None:
    dent = np.zeros((40, 40), np.uint8)
    dent[:10, 10:20] = 255
    Image.fromarray(255 - dent).save(tmp_path / "a.png")
    Image.fromarray(dent).save(tmp_path / "b.png")

    def made(name: str) -> Label:
        return Label(tmp_path / name, (40, 40), "defective", (Mask(tmp_path / name),))

    with pytest.raises(ExportError, match=r"a\.png.*look inverted"):
        labels.check_masks([made("a.png")])
    labels.check_masks([made("a.png"), made("b.png")])
