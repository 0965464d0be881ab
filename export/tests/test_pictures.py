"""Which files of a folder are pictures, as the program has it."""

from pathlib import Path

import pytest
from PIL import Image

from weakrest_export import pictures
from weakrest_export.errors import ExportError

PROGRAM = Path(__file__).parents[2] / "src" / "imaging" / "endings.txt"


def test_the_list_is_the_program_s() -> None:
    ours = Path(pictures.__file__).with_name("endings.txt")
    assert ours.read_bytes() == PROGRAM.read_bytes()
    assert {"png", "jfif", "jpe", "tif"} <= pictures.names("taken")
    assert "webp" in pictures.names("refused")
    assert {"thumbs.db", "@eadir", "__macosx", "system volume information"} <= pictures.names("leftover")


def test_pictures_count_by_any_name_and_the_rest_is_named(tmp_path: Path) -> None:
    picture = Image.new("L", (20, 20))
    for name in ("a.png", "b.PNG", "c.bmp", "d.TIF"):
        picture.save(tmp_path / name)
    picture.save(tmp_path / "e.jpg")
    (tmp_path / "e.jpg").rename(tmp_path / "e.jfif")
    for name in ("without", "g.png.bak", "h.csv", "._a.png"):
        picture.save(tmp_path / name, "png")
    picture.save(tmp_path / "i.webp")
    for folder in ("monday/deeper", "@eaDir", "empty", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("monday/deeper/1.png", "monday/2.jpe", "@eaDir/a.png", ".hidden/a.png", "monday/._3.png"):
        picture.save(tmp_path / name, "png")
    (tmp_path / "Thumbs.db").write_bytes(b"left")
    (tmp_path / "notes").write_text("text")

    found, notes = pictures.find(tmp_path)
    assert [path.name for path in found] == ["a.png", "b.PNG", "c.bmp", "d.TIF", "e.jfif", "without"]
    assert len(notes) == 3
    assert "1 picture in formats that are not read" in notes[0] and "i.webp" in notes[0]
    assert "g.png.bak" in notes[1]
    assert notes[2].endswith("monday with 2 pictures")


def test_a_folder_of_folders_says_where_the_pictures_are(tmp_path: Path) -> None:
    (tmp_path / "monday").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "monday" / "1.png")
    with pytest.raises(ExportError, match=r"has no pictures .*monday with 1 picture"):
        pictures.find(tmp_path)
