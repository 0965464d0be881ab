"""A document, taken apart: blocks, prose, inline code, commands, anchors."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block, and the comment directly before it."""

    line: int
    language: str
    marker: str
    text: list[str]

    @property
    def is_run(self) -> bool:
        return self.language == "sh" and not self.marker.startswith("not run: ")

    def commands(self) -> Iterator["Command"]:
        """Without comments; continued lines in one piece."""
        start, whole = 0, ""
        for number, line in enumerate(self.text, self.line + 1):
            start = start or number
            whole += line.strip()
            if whole.endswith("\\"):
                whole = whole[:-1]
                continue
            if whole and not whole.startswith("#"):
                yield Command(start, whole)
            start, whole = 0, ""


class Command(NamedTuple):
    """Something to type into a shell."""

    line: int
    text: str


class Document:
    """A Markdown or plain text file."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name
        self.blocks: list[Block] = []
        # Lines outside of blocks, with their numbers.
        self.prose: list[tuple[int, str]] = []
        marker, start = "", 0
        language: str | None = None
        text: list[str] = []
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
        """Inline code. It may continue on the next line."""
        text = "\n".join(line for _, line in self.prose)
        for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
            if "\n\n" not in found[1]:
                yield self.line_at(text, found.start()), " ".join(found[1].split())

    def line_at(self, prose: str, position: int) -> int:
        return self.prose[prose.count("\n", 0, position)][0]

    def commands(self) -> Iterator[Command]:
        """Everything that looks like a command, run or not."""
        for block in self.blocks:
            if block.language == "sh":
                yield from block.commands()
        for number, text in self.spans():
            if re.match(r"(sudo (-u \S+ )?)?(weakrest(-export)?|make) ", text):
                yield Command(number, text)
        if self.path.suffix != ".md":
            for number, line in self.prose:
                if re.match(r"  (sudo )?(weakrest|make) ", line):
                    yield Command(number, line.strip())


@cache
def anchors(file: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    result = set()
    for _, line in Document(file).prose:
        if heading := re.match(r"#+ (.*)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            result.add(f"{slug}-{count}" if count else slug)
    return frozenset(result)
