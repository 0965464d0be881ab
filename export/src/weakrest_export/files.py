"""Writes files atomically, reads text, checks names of files."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from weakrest_export.errors import Exit, ExportError


def write_together(directory: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into an existing directory, in order, each atomically.

    Raises:
        ExportError: if the directory is missing or cannot be written.
    """
    if not directory.is_dir():
        raise ExportError(f"output directory {directory} does not exist: create it first")
    try:
        for name, content in files.items():
            write_whole(directory / name, content)
    except OSError as error:
        raise ExportError(f"cannot write to {directory}: {error}", Exit.FAULT) from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see the old file or the new one, even after a power cut.

    Raises:
        OSError: if nothing was written.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # Temporary files are private to their owner. These files are shared.
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise


def read_text(path: Path) -> str:
    """Reads UTF-8 text, with or without a byte order mark.

    Raises:
        ExportError: if the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"cannot read {path}: it is not UTF-8 text") from error


def check_name(name: str) -> None:
    """Raises ExportError unless files can have the name on every system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ExportError(f"name {name!r}: use only letters, digits, '.', '_' and '-'")
