"""Checks the documents against the tree and the program: `python3 tools/check_docs WEAKREST [PYTHON]`.

WEAKREST is the program. PYTHON is an interpreter that can import what weakrest_export needs; without it,
weakrest-export's commands are not checked. In all Markdown files and deb/README.Debian:

- Links and anchors within the repository exist.
- Lines of Markdown have at most 110 columns. Tables, code and lines with a long address may be longer.
- Paths, make targets, flags, configuration keys, tests and messages that the text names exist.
- Commands in `sh` blocks work. They run in the order of the document, in a folder with generated pictures.
  A comment before the block changes that: `<!-- not run: REASON -->`, or, for a service,
  `<!-- runs until stopped -->`.

Prints FILE:LINE of each mistake. Exit codes: 0 no mistakes, 1 mistakes, 2 usage.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import text
import tree
from document import Document
from programs import Programs
from running import Stage


def check(document: Document, programs: Programs, stage: Stage) -> list[str]:
    mistakes = [
        *text.links(document),
        *text.layout(document),
        *text.names(document, programs),
        *text.messages(document),
        *text.keys(document, programs),
        *text.commands(document, programs),
        *stage.run(document),
    ]
    return [f"{document.name}:{line}: {what}" for line, what in sorted(set(mistakes))]


def main() -> int:
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_file():
        print("usage: check_docs WEAKREST [PYTHON]")
        return 2
    start = time.monotonic()
    programs = Programs(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    documents = [Document(tree.ROOT / name, name) for name in tree.documents()]
    with tempfile.TemporaryDirectory(prefix="check-docs-") as folder:
        stage = Stage(Path(folder), programs)
        with ThreadPoolExecutor(max_workers=2) as pool:
            found = list(pool.map(lambda document: check(document, programs, stage), documents))
    mistakes = [line for lines in found for line in lines]
    for line in mistakes:
        print(line)
    run = sum(block.is_run for document in documents for block in document.blocks)
    seconds = time.monotonic() - start
    print(
        f"check_docs: {len(documents)} documents, {run} blocks run, {len(mistakes)} mistakes, {seconds:.0f} s"
    )
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
