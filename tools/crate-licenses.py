#!/usr/bin/env python3
"""Prints the license of every crate in the program, with its text: `crate-licenses.py TARGET`.

Most licenses allow distributing binaries only together with their text.
"""

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")


def linked(metadata: dict) -> set[str]:
    """The packages among the program's normal dependencies, direct or not."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found: set[str] = set()
    waiting = [metadata["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return found - {metadata["resolve"]["root"]}


def texts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().startswith(NAMES))


def main() -> None:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", sys.argv[1]]
    command += sys.argv[2:]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ids = linked(metadata)
    packages = [package for package in metadata["packages"] if package["id"] in ids]
    packages.sort(key=lambda package: (package["name"], package["version"]))
    # Hundreds of crates share a few texts.
    numbers: dict[str, int] = {}
    for package in packages:
        authors = ", ".join(package["authors"])
        said = f"{package['name']} {package['version']}: {package['license']}"
        print(f"{said}; {authors}" if authors else said)
        for path in texts(Path(package["manifest_path"]).parent):
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            number = numbers.setdefault(text, len(numbers) + 1)
            print(f"    {path.name}: text {number}")
    for text, number in numbers.items():
        print(f"\n{'=' * 40} text {number}\n\n{text}")


if __name__ == "__main__":
    main()
