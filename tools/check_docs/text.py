"""Checks what the text says against the tree and the programs."""

import re
import sys
from collections.abc import Iterator

import tree
from document import Document, anchors
from programs import Programs

if sys.version_info >= (3, 11):
    import tomllib

WIDTH = 110
LANGUAGES = {"json", "rust", "sh", "text", "toml"}
Mistake = tuple[int, str]


def links(document: Document) -> Iterator[Mistake]:
    for number, line in document.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (document.path.parent / path).resolve() if path else document.path
            if not file.exists():
                yield number, f"link to {target}: there is no {path}"
            elif anchor and anchor not in anchors(file):
                yield number, f"link to {target}: {file.name} has no heading #{anchor}"


def layout(document: Document) -> Iterator[Mistake]:
    for number, line in document.prose:
        longest = max((len(word) for word in line.split()), default=0)
        if len(line) > WIDTH and not line.startswith("|") and longest < WIDTH // 2:
            yield number, f"{len(line)} columns, more than {WIDTH}: wrap it"
    for block in document.blocks:
        if block.language not in LANGUAGES:
            yield (
                block.line,
                f"block of language {block.language!r}: use one of {', '.join(sorted(LANGUAGES))}",
            )


def names(document: Document, programs: Programs) -> Iterator[Mistake]:
    """Paths, tests and flags in the text."""
    tops = {name.split("/")[0] for name in tree.files()}
    shown = " ".join(line for block in document.blocks for line in block.text)
    for number, text in document.spans():
        path = re.fullmatch(r"([\w.-]+)/[\w./-]*\w", text)
        # The folder of networks has the name of what people call theirs.
        if path and path[1] in tops - {"models"} and not tree.exists(text):
            yield number, f"`{text}`: there is no such file in the tree"
        test = re.search(r"\w+::(\w+)…$", text)
        if test and not tree.has_function_that_begins(test[1]):
            yield number, f"`{text}`: there is no such test"
        item = re.search(r"(?:\w+::)+(\w+)(?:\(.*\))?$", text) or re.fullmatch(r"([a-z]+(?:_[a-z]+)+)", text)
        if item and item[1] not in tree.words() and item[1] not in shown:
            yield number, f"`{text}`: {item[1]} is nowhere in the sources"
        if (found := re.match(r"--[a-z][a-z0-9-]*", text)) and not programs.flag_somewhere(found[0]):
            yield number, f"`{found[0]}`: no command has this flag"


def messages(document: Document) -> Iterator[Mistake]:
    """Tables with a first column "message": the program must be able to say each."""
    quoting = False
    for number, line in document.prose:
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [""]
        quoting = cells[0] == "message" or (quoting and line.startswith("|"))
        for text in re.findall(r"`([^`]+)`", cells[0]) if quoting else []:
            for part in text.split("…"):
                if len(part.strip()) > 3 and part.strip() not in tree.sources():
                    yield number, f"`{part.strip()}`: the program never says that"


def keys(document: Document, programs: Programs) -> Iterator[Mistake]:
    """Configuration keys, in blocks and in the text."""
    known = programs.keys
    for block in document.blocks:
        if block.language != "toml" or sys.version_info < (3, 11):
            continue
        # A comment that shows a key has no space after its "#".
        text = "\n".join(re.sub(r"^#(?=[a-z_]+ = )", "", line) for line in block.text)
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            yield block.line, f"not valid TOML: {error}"
            continue
        for table, content in tables.items():
            if table not in known:
                yield block.line, f"[{table}]: the configuration has no such table"
            else:
                for key in set(content) - known[table]:
                    yield block.line, f"{table}.{key}: the configuration has no such key"
    prose = "\n".join(line for _, line in document.prose)
    sections = "|".join(known)
    dotted = rf"`(?P<table>{sections})\.(?P<key>[a-z_]+)(?: = [^`]*)?`"
    worded = rf"`(?P<key>[a-z_]+)(?: = [^`]*)?`\s+(?:in|of)\s+`\[(?P<table>{sections})\]`"
    for pattern in (dotted, worded):
        for found in re.finditer(pattern, prose):
            if found["key"] not in known[found["table"]]:
                line = document.line_at(prose, found.start())
                yield line, f"{found['table']}.{found['key']}: the configuration has no such key"


def commands(document: Document, programs: Programs) -> Iterator[Mistake]:
    """Sub-commands, flags and make targets, whether the command is run or not."""
    for command in document.commands():
        for text in re.split(r"\s+(?:&&|\||;)\s+", re.sub(r"\s#\s.*", "", command.text)):
            found = re.match(
                r"(?:sudo )?(?:-u \S+ )?(?:\S*/)?(make|weakrest-export|weakrest)(?: (.*))?$", text
            )
            if not found:
                continue
            words = (found[2] or "").split()
            if found[1] == "make":
                # The words of a variable's value are no targets.
                for target in re.sub(r'"[^"]*"', "", found[2] or "").split():
                    if re.fullmatch(r"[a-z][a-z-]*", target) and target not in tree.targets():
                        yield command.line, f"make {target}: the Makefile has no such target"
            elif found[1] in programs.names():
                for problem in _flags(programs, found[1], words):
                    yield command.line, problem


def _flags(programs: Programs, program: str, words: list[str]) -> Iterator[str]:
    called: list[str] = []
    for word in words:
        if word not in programs.subcommands(program, *called):
            break
        called.append(word)
    if not called and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        yield f"{program} {words[0]}: there is no such command"
        return
    for word in words:
        found = re.match(r"\[?(--[a-z][a-z0-9-]*|-[a-z])(?![\w-])", word)
        if found and not programs.has_flag(found[1], program, *called):
            yield f"{' '.join([program, *called])}: there is no flag {found[1]}"
