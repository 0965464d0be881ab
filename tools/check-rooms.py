#!/usr/bin/env python3
"""Checks that rooms of src use only rooms on floors below them, by the table in docs/contributing.md.

Tests may use any room.
"""

import re
import sys
from pathlib import Path

DOCUMENT = Path("docs/contributing.md")
SOURCES = Path("src")
# Rooms of the names that the library's root passes on.
ROOT = {
    "Error": "error",
    "ErrorKind": "error",
    "Result": "error",
    "Color": "imaging",
    "Frame": "imaging",
    "Inspection": "inspector",
    "Inspector": "inspector",
    "Region": "inspector",
    "Verdict": "inspector",
    "Package": "package",
}
# Crates of this workspace that are rooms.
CRATES = ("posfar", "swinhead")


def floors() -> dict[str, int]:
    """The floor of each room. A row of the table is | 2 | `imaging/`, `state` | pixels |."""
    found: dict[str, int] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| ([^|]+) \|", DOCUMENT.read_text(), re.M):
        for room in re.findall(r"`([^`]+)`", rooms):
            found[Path(room).stem] = int(floor)
    return found


def rooms_on_disk() -> set[str]:
    rooms = {path.stem for path in SOURCES.iterdir() if path.is_dir() or path.suffix == ".rs"}
    return rooms - {"lib", "main"}


def without_tests(text: str) -> str:
    """The text without comments and modules of tests, with its line breaks."""
    text = re.sub(r"//.*", "", text)
    # Such a module ends at the first brace that is as far to the left as its beginning.
    tests = r"^( *)#\[cfg\(test\)\]\n(?: *#\[.*\]\n)*\1mod \w+ \{.*?^\1\}"
    return re.sub(tests, lambda found: "\n" * found.group().count("\n"), text, flags=re.M | re.S)


def heads(text: str, start: int) -> list[str]:
    """The first names of a path: one, or several in braces."""
    if not text.startswith("{", start):
        name = re.compile(r"\w+").match(text, start)
        return [name.group()] if name else []
    depth, names = 0, []
    for token in re.finditer(r"[{},]|\w+(?:::\w+)*", text[start:]):
        word = token.group()
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
            if depth == 0:
                break
        elif depth == 1 and word != ",":
            names.append(word.split("::")[0])
    return names


def uses(path: Path) -> list[tuple[int, str]]:
    """Rooms that a file names, with the lines where it does."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    depth = len(parts) - (parts[-1] == "mod")
    text = without_tests(path.read_text())
    # From the library's root, or a crate's name.
    paths = rf"(?<![\w$])(?:crate::|(?:super::){{{depth}}})|(?<![\w:])(?=(?:{'|'.join(CRATES)})::)"
    found = []
    for match in re.finditer(paths, text):
        line = text.count("\n", 0, match.start()) + 1
        found += [(line, ROOT.get(name, name)) for name in heads(text, match.end())]
    return found


def main() -> None:
    floor = floors()
    missing = sorted(rooms_on_disk() - floor.keys())
    wrong = [f"{SOURCES / room}: not in the table of {DOCUMENT}; add it to its floor" for room in missing]
    gone = sorted(floor.keys() - rooms_on_disk() - set(CRATES))
    wrong += [f"{DOCUMENT}: the room {room} does not exist; remove it from the table" for room in gone]
    for path in sorted(SOURCES.rglob("*.rs")):
        parts = path.relative_to(SOURCES).parts
        room = Path(parts[0]).stem
        if room not in floor or "tests" in parts or path.stem == "tests":
            continue
        for line, other in uses(path):
            if other != room and other in floor and floor[other] >= floor[room]:
                what = f"{room} (floor {floor[room]}) uses {other} (floor {floor[other]})"
                wrong.append(f"{path}:{line}: {what}; a room uses only rooms below it")
    for message in sorted(set(wrong)):
        print(message, file=sys.stderr)
    if not floor:
        sys.exit(f"check-rooms: no table of floors in {DOCUMENT}")
    if wrong:
        sys.exit(f"check-rooms: {len(set(wrong))} faults")


if __name__ == "__main__":
    main()
