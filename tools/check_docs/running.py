"""Runs the commands of the documents, on generated pictures."""

import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from document import Document
from programs import Programs

# Where a command does not end in this time, something is wrong.
PATIENCE = 120.0
SERVICE_SECONDS = 3.0
# Whatever else a document shows must say why it is not run: it might install or remove things.
RUNNABLE = {"weakrest", "weakrest-export", "mkdir", "ls", "cp"}
# What most documents begin with: it is run once for all.
ENROLL = "weakrest enroll --images good/ --output bottle.weakrest"
# These end with 1 when they find rejects.
JUDGES = {"inspect"}
SIDE = 96
SPOT = range(40, 56)


class Stage:
    """A folder with what the commands need. Each document works in a copy."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder = folder
        self.fixture = folder / "fixture"
        programs_folder = folder / "bin"
        programs_folder.mkdir()
        (programs_folder / "weakrest").symlink_to(programs.weakrest)
        self.python = programs.python
        if self.python:
            script = programs_folder / "weakrest-export"
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(self.python))} -m weakrest_export "$@"\n')
            script.chmod(0o755)
        path = f"{programs_folder}:{programs.environment['PATH']}"
        self.environment = programs.environment | {"PATH": path, "HOME": str(folder)}
        make_fixture(self.fixture)
        if problem := self.carry_out(ENROLL, self.fixture):
            raise RuntimeError(f"cannot prepare the documents' package: {problem}")

    def run(self, document: Document) -> Iterator[tuple[int, str]]:
        """Runs a document's blocks in order, up to the first mistake."""
        blocks = [block for block in document.blocks if block.is_run]
        if not blocks:
            return
        folder = self.folder / document.name.replace("/", "-")
        shutil.copytree(self.fixture, folder)
        # What the document makes itself is not there before.
        for command in (command for block in blocks for command in block.commands()):
            for made in re.findall(r"--output (\S+)", command.text):
                if (folder / made).is_dir() and command.text != ENROLL:
                    shutil.rmtree(folder / made)
        for block in blocks:
            for command in block.commands():
                program = command.text.split()[0]
                problem: str | None
                if command.text == ENROLL:
                    continue
                if program not in RUNNABLE:
                    problem = 'cannot run here; put "<!-- not run: REASON -->" before the block'
                elif program == "weakrest-export" and not self.python:
                    continue
                elif block.marker == "runs until stopped":
                    problem = self.serve(command.text, folder)
                else:
                    problem = self.carry_out(command.text, folder)
                if problem:
                    yield command.line, f"{command.text}: {problem}"
                    return

    def carry_out(self, command: str, folder: Path) -> str | None:
        """Runs a command; returns what went wrong."""
        try:
            ended = subprocess.run(
                ["sh", "-c", command],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return f"does not end within {PATIENCE:.0f} s"
        rejects = ended.returncode == 1 and command.split()[1] in JUDGES
        if ended.returncode == 0 or rejects:
            return None
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        return f"exit code {ended.returncode}: {said[0] if said else 'nothing was said'}"

    def serve(self, command: str, folder: Path) -> str | None:
        """Starts a service, which must run until it is stopped."""
        if command.startswith("weakrest label") and "--listen" not in command:
            command += " --listen 127.0.0.1:0"  # another labeler may run on this machine
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=folder,
                env=self.environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(SERVICE_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return "does not stop"
                return None
            said.seek(0)
            return f"ended by itself with exit code {code}: {said.read().strip()[:200]}"


def make_fixture(folder: Path) -> None:
    """Pictures and files with the names that the documents use."""
    pictures = {
        "good": (8, False),
        "bad": (2, True),
        "rejects": (2, True),
        "labeled/train/good": (3, False),
        "labeled/test/good": (1, False),
        "labeled/test/crack": (1, True),
    }
    seed = 0
    for name, (count, is_bad) in pictures.items():
        (folder / name).mkdir(parents=True)
        for n in range(count):
            write_png(folder / name / f"{n:03}.png", part(seed, is_bad))
            seed += 1
    write_png(folder / "part.png", part(seed, True))
    truth = folder / "labeled/ground_truth/crack/000_mask.png"
    truth.parent.mkdir(parents=True)
    write_png(truth, bytes(255 * (y in SPOT and x in SPOT) for y in range(SIDE) for x in range(SIDE)))
    label = '{{"image": "rejects/{:03}.png", "defects": [{{"box": [38, 38, 58, 58]}}]}}\n'
    labels = [label.format(n) for n in range(2)]
    for name in ("parts.jsonl", "labels.jsonl"):
        (folder / name).write_text("".join(labels))
    (folder / "weakrest.toml").write_text(
        '[inspection]\npackage = "bottle.weakrest"\n'
        '[camera]\nkind = "folder"\npath = "good"\nrate = 5.0\nrepeat = true\n'
        '[web]\nlisten = "127.0.0.1:0"\n'
    )


def part(seed: int, is_bad: bool) -> bytes:
    """A tiled surface with noise, maybe with a dark spot."""
    noise = random.Random(seed)
    tiles = (120 + 30 * (x // 12 % 2) + 20 * (y // 16 % 2) for y in range(SIDE) for x in range(SIDE))
    pixels = bytearray(tile + noise.randrange(8) for tile in tiles)
    for y in SPOT if is_bad else []:
        for x in SPOT:
            pixels[y * SIDE + x] = 20
    return bytes(pixels)


def write_png(path: Path, pixels: bytes) -> None:
    """Writes a gray square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[n : n + SIDE] for n in range(0, SIDE * SIDE, SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
