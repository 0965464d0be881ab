#!/usr/bin/env python3
"""Checks the documents against the tree and the program: `check-docs.py WEAKREST [PYTHON]`.

WEAKREST is the program; PYTHON is an interpreter that can import weakrest_export (without it those commands are
not checked). In README.md, the guides and deb/README.Debian:

- Links and anchors within the repository exist.
- Lines of Markdown have at most 110 columns. Tables, code and lines with a long address may be longer.
- Paths, make targets, flags, configuration keys, tests and messages that the text names exist.
- Commands in `sh` blocks work. They run in the order of the document, in a folder with generated pictures. A comment
  before the block changes that: `<!-- not run: REASON -->`, or `<!-- runs until stopped -->` for a service.

Prints FILE:LINE of everything that is wrong. Exit codes: 0 all is right, 1 something is wrong, 2 usage.
"""

import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 110
# Where a link or a service leads to nothing for so long, something is wrong.
PATIENCE = 120.0
SERVICE_SECONDS = 3.0
LANGUAGES = {"json", "rust", "sh", "text", "toml"}
# Commands that find rejects end with 1.
JUDGES = ("inspect", "evaluate")


class Block(NamedTuple):
    """A fenced block."""

    line: int
    language: str
    marker: str
    text: list[str]


class Command(NamedTuple):
    line: int
    text: str


class Document:
    """A document, taken apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.blocks: list[Block] = []
        # Lines outside of blocks, with their numbers.
        self.prose: list[tuple[int, str]] = []
        marker, language, start, text = "", None, 0, []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.lstrip().startswith("```"):
                if language is None:
                    language, start, text = line.strip("` "), number, []
                else:
                    self.blocks.append(Block(start, language, marker, text))
                    language, marker = None, ""
            elif language is not None:
                text.append(line)
            else:
                self.prose.append((number, line))
                found = re.fullmatch(r"<!-- (.*) -->", line.strip())
                marker = found[1] if found else ("" if line.strip() else marker)

    def spans(self) -> Iterator[tuple[int, str]]:
        """Inline code. It may go over the end of a line."""
        text = "\n".join(line for _, line in self.prose)
        for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
            if "\n\n" not in found[1]:
                yield self.prose[text.count("\n", 0, found.start())][0], " ".join(found[1].split())

    def commands(self) -> Iterator[Command]:
        """Everything that looks like a command, run or not."""
        for block in self.blocks:
            if block.language == "sh":
                yield from logical_lines(block)
        for number, text in self.spans():
            if re.match(r"(sudo (-u \S+ )?)?(weakrest(-export)?|make) ", text):
                yield Command(number, text)
        if self.path.suffix != ".md":
            for number, line in self.prose:
                if re.match(r"  (sudo )?(weakrest|make) ", line):
                    yield Command(number, line.strip())


def logical_lines(block: Block) -> Iterator[Command]:
    """A block's commands: without comments, continued lines in one piece."""
    start, whole = 0, ""
    for number, line in enumerate(block.text, block.line + 1):
        start = start or number
        whole += line.strip()
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        if whole and not whole.startswith("#"):
            yield Command(start, whole)
        start, whole = 0, ""


class Checker:
    def __init__(self, weakrest: Path, python: Path | None) -> None:
        self.weakrest, self.python = weakrest.resolve(), python and python.absolute()
        self.wrong: list[str] = []
        self.documents = [Document(path) for path in documents()]
        self.tree = tracked()
        self.environment = os.environ | {"PYTHONPATH": str(ROOT / "export/src"), "COLUMNS": "200"}
        library = ROOT / "target/onnxruntime/libonnxruntime.so"
        if library.exists():
            self.environment.setdefault("ORT_DYLIB_PATH", str(library))

    def complain(self, document: Document, line: int, what: str) -> None:
        self.wrong.append(f"{document.name}:{line}: {what}")

    def output(self, *command: str | Path) -> str:
        ended = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        return ended.stdout + ended.stderr

    # Links and lines

    def links(self, document: Document) -> None:
        for number, line in document.prose:
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (document.path.parent / path).resolve() if path else document.path
                if not file.exists():
                    self.complain(document, number, f"link to {target}: there is no {path}")
                elif anchor and anchor not in anchors(file):
                    self.complain(document, number, f"link to {target}: {file.name} has no heading #{anchor}")

    def lines(self, document: Document) -> None:
        for number, line in document.prose:
            unbreakable = max((len(word) for word in line.split()), default=0) > WIDTH // 2
            if len(line) > WIDTH and not line.startswith("|") and not unbreakable:
                self.complain(document, number, f"{len(line)} columns, more than {WIDTH}: wrap it")
        for block in document.blocks:
            if block.language not in LANGUAGES:
                known = ", ".join(sorted(LANGUAGES))
                self.complain(document, block.line, f"block of language {block.language!r}: name one of {known}")

    # What the text names

    def names(self, document: Document) -> None:
        for number, text in document.spans():
            if found := re.fullmatch(r"((?:\.?[\w-]+)/[\w./-]*\w)", text):
                top = found[1].split("/")[0]
                if top in {name.split("/")[0] for name in self.tree} and not self.exists(found[1]):
                    self.complain(document, number, f"`{text}`: there is no such file in the tree")
            if found := re.search(r"\w+::([a-z]\w+)(…?)$", text):
                if not any(f == found[1] or (found[2] and f.startswith(found[1])) for f in functions()):
                    self.complain(document, number, f"`{text}`: there is no such test or function")
            if found := re.match(r"--[a-z-]+", text):
                if not self.flag_somewhere(found[0]):
                    self.complain(document, number, f"`{found[0]}`: no command has this flag")

    def exists(self, path: str) -> bool:
        return path in self.tree or any(name.startswith(path + "/") for name in self.tree)

    def messages(self, document: Document) -> None:
        """Tables whose first column is headed "message": each stands in the sources."""
        quoting = False
        for number, line in document.prose:
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            if not cells:
                quoting = False
            elif cells[0] == "message":
                quoting = True
            elif quoting:
                for text in re.findall(r"`([^`]+)`", cells[0]):
                    for part in text.split("…"):
                        if len(part.strip()) > 3 and part.strip() not in sources():
                            self.complain(document, number, f"`{part.strip()}`: the program never says that")

    def keys(self, document: Document) -> None:
        known = self.known_keys()
        for block in document.blocks:
            if block.language != "toml":
                continue
            # A comment that shows a key has no space after its "#".
            text = "\n".join(re.sub(r"^#(?=[a-z_]+ = )", "", line) for line in block.text)
            try:
                tables = tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                self.complain(document, block.line, f"not valid TOML: {error}")
                continue
            for section, keys in tables.items():
                if section not in known:
                    self.complain(document, block.line, f"[{section}]: the configuration has no such table")
                    continue
                for key in set(keys) - known[section]:
                    self.complain(document, block.line, f"{section}.{key}: the configuration has no such key")
        text = "\n".join(line for _, line in document.prose)
        sections = "|".join(known)
        named = [
            (found.start(), found[1], found[2])
            for found in re.finditer(rf"`({sections})\.([a-z_]+)(?: = [^`]*)?`", text)
        ] + [
            (found.start(), found[2], found[1])
            for found in re.finditer(rf"`([a-z_]+)(?: = [^`]*)?`\s+(?:in|of)\s+`\[({sections})\]`", text)
        ]
        for position, section, key in named:
            if key not in known[section] and key not in {"toml", "rs", "svg", "jpg"}:
                number = document.prose[text.count("\n", 0, position)][0]
                self.complain(document, number, f"{section}.{key}: the configuration has no such key")

    @cache
    def known_keys(self) -> dict[str, set[str]]:
        """The program's own answer to a key that it does not know."""
        known: dict[str, set[str]] = {}

        def asked(text: str) -> set[str]:
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                _, _, listed = self.output(self.weakrest, "check", "--config", file.name).partition("expected")
            return set(re.findall(r"`([a-z_]+)`", listed))

        start = '[inspection]\npackage = "x"\n[camera]\nkind = "folder"\npath = "x"\nrate = 1.0\n'
        for section in asked("no_such_key = 1\n" + start):
            if section == "inspection":
                known[section] = asked("[inspection]\nno_such_key = 1\n")
            elif section == "camera":
                known[section] = {"kind"} | asked(start + "no_such_key = 1\n")
                known[section] |= asked('[camera]\nkind = "v4l2"\nno_such_key = 1\n[inspection]\npackage = "x"\n')
            elif section == "trigger":
                known[section] = {"source"}
                for source in ("free", "gpio", "software"):
                    known[section] |= asked(start + f'[trigger]\nsource = "{source}"\nno_such_key = 1\n')
            else:
                known[section] = asked(start + f"[{section}]\nno_such_key = 1\n")
        return known

    # Commands

    def flags(self, document: Document) -> None:
        for command in document.commands():
            for text in re.split(r"\s+(?:&&|\||;)\s+|\s#\s", command.text):
                words = text.split()
                while words and (words[0] in {"sudo", "-u", "weakrest", "."} or "=" in words[0]):
                    if words[0] == "weakrest" and words[1:2] != ["weakrest"]:
                        break
                    words = words[1:]
                if not words:
                    continue
                program = words[0].rsplit("/", 1)[-1]
                if program == "make":
                    for target in words[1:]:
                        if re.fullmatch(r"[a-z][a-z-]*", target) and target not in targets():
                            self.complain(document, command.line, f"make {target}: the Makefile has no such target")
                elif program in {"weakrest", "weakrest-export"}:
                    self.flags_of(document, command.line, program, words[1:])

    def flags_of(self, document: Document, line: int, program: str, words: list[str]) -> None:
        if program == "weakrest-export" and not self.python:
            return
        names: list[str] = []
        for word in words:
            if not re.fullmatch(r"[a-z][a-z-]*", word) or word not in self.subcommands(program, *names):
                break
            names.append(word)
        if not names and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
            self.complain(document, line, f"{program} {words[0]}: there is no such command")
            return
        help_text = self.help(program, *names)
        for word in words:
            if found := re.match(r"\[?(--[a-z][a-z-]*|-[a-z])(?![\w-])", word):
                if not re.search(rf"(?<![\w-]){re.escape(found[1])}(?![\w-])", help_text):
                    self.complain(document, line, f"{' '.join([program, *names])}: there is no flag {found[1]}")

    @cache
    def help(self, program: str, *names: str) -> str:
        if program == "weakrest":
            return self.output(self.weakrest, *names, "--help")
        return self.output(self.python or "python3", "-m", "weakrest_export", *names, "--help")

    @cache
    def subcommands(self, program: str, *names: str) -> set[str]:
        text = self.help(program, *names)
        listed = set(re.findall(r"^ {2,6}([a-z][a-z-]*)\b", text, re.M))
        for choices in re.findall(r"\{([a-z,-]+)\}", text):
            listed |= set(choices.split(","))
        return listed

    @cache
    def flag_somewhere(self, flag: str) -> bool:
        for program in ("weakrest", "weakrest-export"):
            if program == "weakrest-export" and not self.python:
                return True
            first = self.subcommands(program)
            for name in first:
                if flag in self.help(program, name):
                    return True
                if name in {"package", "labels"} and any(
                    flag in self.help(program, name, second) for second in self.subcommands(program, name) - first
                ):
                    return True
        return False

    # Running

    def run(self, document: Document, fixture: Path, folder: Path) -> None:
        blocks = [block for block in document.blocks if block.language == "sh"]
        runnable = [block for block in blocks if not block.marker.startswith("not run: ")]
        if not runnable:
            return
        shutil.copytree(fixture, folder)
        # What the document makes itself is not there before.
        for block in runnable:
            for command in logical_lines(block):
                for made in re.findall(r"--(?:output|out) (\S+)", command.text):
                    if (folder / made).is_dir() and made != ".":
                        shutil.rmtree(folder / made)
        path = f"{fixture.parent / 'bin'}:{self.environment['PATH']}"
        environment = self.environment | {"PATH": path, "HOME": str(folder)}
        for block in runnable:
            for command in logical_lines(block):
                if block.marker == "runs until stopped":
                    problem = serve(command.text, folder, environment)
                else:
                    problem = carry_out(command.text, folder, environment)
                if problem:
                    self.complain(document, command.line, f"{command.text}: {problem}")
                    return

    def check(self) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="check-docs-") as name:
            scratch = Path(name)
            fixture = scratch / "fixture"
            (scratch / "bin").mkdir()
            (scratch / "bin/weakrest").symlink_to(self.weakrest)
            if self.python:
                export = scratch / "bin/weakrest-export"
                export.write_text(f'#!/bin/sh\nexec {shlex.quote(str(self.python))} -m weakrest_export "$@"\n')
                export.chmod(0o755)
            make_fixture(fixture)
            enroll = "weakrest enroll --images good --output bottle.weakrest"
            path = f"{scratch / 'bin'}:{self.environment['PATH']}"
            if problem := carry_out(enroll, fixture, self.environment | {"PATH": path}):
                return [f"check-docs: {enroll}: {problem}"]
            with ThreadPoolExecutor(max_workers=2) as pool:
                runs = [
                    pool.submit(self.run, document, fixture, scratch / str(n))
                    for n, document in enumerate(self.documents)
                ]
                for document in self.documents:
                    for look in (self.links, self.lines, self.names, self.messages, self.keys, self.flags):
                        look(document)
                for run in runs:
                    run.result()
        return sorted(self.wrong, key=lambda text: (text.split(":")[0], int(text.split(":")[1])))


def carry_out(command: str, folder: Path, environment: dict[str, str]) -> str | None:
    """Runs a command; says what went wrong."""
    try:
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {PATIENCE:.0f} s"
    judges = re.match(rf"weakrest ({'|'.join(JUDGES)}) ", command)
    if ended.returncode == 0 or (judges and ended.returncode == 1):
        return None
    said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
    return f"exit code {ended.returncode}: {said[0] if said else 'nothing was said'}"


def serve(command: str, folder: Path, environment: dict[str, str]) -> str | None:
    """Starts a service, which must be there until it is stopped."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
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


# What the commands work on


def make_fixture(folder: Path) -> None:
    """Pictures and files with the names that the documents use."""
    for sub in ("good", "bad", "rejects", "labeled/train/good", "labeled/test/good"):
        (folder / sub).mkdir(parents=True)
    for sub in ("labeled/test/crack", "labeled/ground_truth/crack"):
        (folder / sub).mkdir(parents=True)
    for n in range(8):
        write_png(folder / f"good/{n:03}.png", part(n))
    for n in range(5):
        write_png(folder / f"labeled/train/good/{n:03}.png", part(100 + n))
    write_png(folder / "labeled/test/good/000.png", part(200))
    write_png(folder / "labeled/test/crack/000.png", part(201, bad=True))
    write_png(folder / "labeled/ground_truth/crack/000_mask.png", mask())
    for n in range(2):
        write_png(folder / f"bad/{n:03}.png", part(300 + n, bad=True))
        write_png(folder / f"rejects/{n:03}.png", part(400 + n, bad=True))
    write_png(folder / "part.png", part(500, bad=True))
    lines = [f'{{"image": "rejects/{n:03}.png", "defects": [{{"box": [38, 38, 58, 58]}}]}}\n' for n in range(2)]
    for name in ("parts.jsonl", "labels.jsonl"):
        (folder / name).write_text("".join(lines))
    (folder / "weakrest.toml").write_text(
        '[inspection]\npackage = "bottle.weakrest"\n'
        '[camera]\nkind = "folder"\npath = "good"\nrate = 5.0\nrepeat = true\n'
    )


SIDE = 96
SPOT = range(40, 56)


def part(seed: int, bad: bool = False) -> bytes:
    """A tiled surface with noise, maybe with a dark spot."""
    noise = random.Random(seed)
    tiles = (120 + 30 * (x // 12 % 2) + 20 * (y // 16 % 2) for y in range(SIDE) for x in range(SIDE))
    pixels = bytearray(tile + noise.randrange(8) for tile in tiles)
    if bad:
        for y in SPOT:
            for x in SPOT:
                pixels[y * SIDE + x] = 20
    return bytes(pixels)


def mask() -> bytes:
    return bytes(255 * (y in SPOT and x in SPOT) for y in range(SIDE) for x in range(SIDE))


def write_png(path: Path, pixels: bytes) -> None:
    """Writes a gray square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[n : n + SIDE] for n in range(0, SIDE * SIDE, SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


# The tree


@cache
def tracked() -> frozenset[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    return frozenset(name for name in listed.stdout.splitlines() if (ROOT / name).exists())


def documents() -> list[Path]:
    names = [n for n in tracked() if n.endswith(".md") and not n.startswith(("vendor/", "tests/"))]
    return [ROOT / name for name in sorted([*names, "deb/README.Debian"])]


@cache
def anchors(file: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for _, line in Document(file).prose:
        if heading := re.match(r"#+ (.*)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            result.add(f"{slug}-{count}" if count else slug)
    return frozenset(result)


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.M)) | frozenset(
        name
        for line in re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)
        for name in line.split()
    )


@cache
def rust() -> str:
    folders = ("src/", "tests/", "crates/")
    files = (ROOT / n for n in tracked() if n.endswith(".rs") and n.startswith(folders))
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(files))


@cache
def functions() -> frozenset[str]:
    return frozenset(re.findall(r"\bfn (\w+)", rust()))


@cache
def sources() -> str:
    """The sources with strings that are continued in one line, and without escapes."""
    return re.sub(r"\\\n\s*", "", rust()).replace('\\"', '"')


def main() -> int:
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_file():
        print("usage: check-docs.py WEAKREST [PYTHON]: the program's file, and a Python with weakrest_export's packages")
        return 2
    checker = Checker(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    wrong = checker.check()
    for line in wrong:
        print(line)
    runnable = sum(
        block.language == "sh" and not block.marker.startswith("not run: ")
        for document in checker.documents
        for block in document.blocks
    )
    print(f"check-docs: {len(checker.documents)} documents, {runnable} blocks run, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
