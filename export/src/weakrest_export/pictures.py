"""Which files of a folder are pictures, by the list that the `weakrest` program also uses."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from PIL import Image, UnidentifiedImageError

from weakrest_export.errors import ExportError

Size = tuple[int, int]
"""Width and height in pixels."""

Kind = Literal["taken", "refused", "misnamed", "folder", "other"]
NAMED = 5
"""Files that a message names. The others are counted."""


@cache
def names(key: str) -> frozenset[str]:
    """The entries of one line of the list: endings `taken`, `refused`, `beside`, or names `leftover`."""
    text = resources.files("weakrest_export").joinpath("endings.txt").read_text("utf-8")
    lines = [line.split(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return frozenset(name for found, rest in lines if found == key for name in rest.split("/"))


def kind_of(path: Path) -> Kind:
    """What an entry of a folder is. A file is opened only if its ending says nothing."""
    name = path.name.lower()
    if name.startswith(".") or name in names("leftover"):
        return "other"
    if path.is_dir():
        return "folder"
    ending = name.rpartition(".")[2] if "." in name else ""
    if ending in names("taken"):
        return "taken"
    if ending in names("refused"):
        return "refused"
    if ending in names("beside") or not path.is_file():
        return "other"
    try:
        with Image.open(path) as picture:
            readable = picture.format in ("PNG", "JPEG", "BMP", "TIFF")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        return "other"
    if ending:
        return "misnamed"
    return "taken" if readable else "refused"


def find(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures directly in a folder, sorted by name, and notes on skipped files.

    Raises:
        ExportError: if there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a directory: name the directory with the good pictures")
    entries = [(kind_of(path), path) for path in sorted(folder.iterdir())]
    of = {kind: [path for found, path in entries if found == kind] for kind, _ in entries}
    notes = _told(of.get("refused", []), "in formats that are not read", "save as PNG, JPEG, BMP or TIFF")
    rename = "rename to .png, .jpg, .bmp or .tif"
    notes += _told(of.get("misnamed", []), "with other endings than pictures have", rename)
    for inner in of.get("folder", []):
        count = sum(kind_of(path) in ("taken", "refused", "misnamed") for path in _below(inner))
        if count:
            notes.append(f"skipped folder {inner} with {_counted(count)}")
    if not of.get("taken"):
        more = "".join(f"; {note}" for note in notes)
        raise ExportError(f"{folder} has no pictures ({', '.join(sorted(names('taken')))}){more}")
    return of["taken"], notes


def _told(paths: list[Path], what: str, advice: str) -> list[str]:
    shown = ", ".join(str(path) for path in paths[:NAMED]) + (", …" if len(paths) > NAMED else "")
    return [f"skipped {_counted(len(paths))} {what} ({shown}): {advice}"] if paths else []


def _counted(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _below(folder: Path) -> Iterable[Path]:
    def is_hidden(path: Path) -> bool:
        inner = path.relative_to(folder).parent.parts
        return any(name.startswith(".") or name.lower() in names("leftover") for name in inner)

    return (path for path in folder.rglob("*") if not is_hidden(path))


def picture_size(path: Path, where: str) -> Size:
    """Width and height of a picture as viewers show it, without decoding it.

    Raises:
        ExportError: starting with `where`, if the file is missing or is no picture.
    """
    try:
        with Image.open(path) as picture:
            # PNG's own getexif decodes the pixels to find what follows them.
            exif = Image.Image.getexif(picture)
            # Orientations 5 to 8 are turned by 90°.
            turned = exif.get(0x0112, 1) in (5, 6, 7, 8)
            return (picture.height, picture.width) if turned else picture.size
    except FileNotFoundError:
        raise ExportError(f"{where}: there is no picture {path}: correct the path or remove it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ExportError(f"{where}: cannot open {path} as a picture: {error}") from error


def pixels(size: Sequence[int]) -> str:
    """A width and height for messages."""
    return "×".join(str(side) for side in size)
