"""Runs the `weakrest` program."""

import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from weakrest_export.errors import Exit, ExportError


def call(weakrest: Path | None, arguments: Sequence[str], accept: Collection[int] = (Exit.OK,)) -> str:
    """Runs the `weakrest` program and returns its output.

    Args:
        weakrest: the program; None: the environment variable WEAKREST, or `weakrest` on the PATH.
        arguments: for the program.
        accept: exit codes of success.

    Raises:
        ExportError: if there is no such program, or with the program's message if it fails.
    """
    named = str(weakrest) if weakrest else os.environ.get("WEAKREST") or "weakrest"
    program = shutil.which(named)
    if program is None:
        raise ExportError(f"there is no program {named}: build weakrest, and set --weakrest or $WEAKREST")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ExportError(f"cannot run {program}: {error.strerror}", Exit.FAULT) from error
    if done.returncode not in accept:
        said = " ".join(done.stderr.split()) or "no message"
        exit = Exit.USAGE if done.returncode == Exit.USAGE else Exit.FAULT
        raise ExportError(f"`weakrest {arguments[0]}` failed with exit code {done.returncode}: {said}", exit)
    return done.stdout
