"""What the repository holds."""

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def files() -> frozenset[str]:
    """Tracked files, and new ones that are not ignored. Without git, as in a released archive, all files."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines()
    if listed.returncode != 0:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if "target" not in path.parts]
    return frozenset(name for name in names if (ROOT / name).is_file())


def documents() -> list[str]:
    markdown = [n for n in files() if n.endswith(".md") and not n.startswith(("vendor/", "tests/"))]
    return sorted([*markdown, "deb/README.Debian"])


def exists(name: str) -> bool:
    """Whether there is such a file or folder."""
    return name in files() or any(file.startswith(name.rstrip("/") + "/") for file in files())


@cache
def targets() -> frozenset[str]:
    """The Makefile's targets."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:\.PHONY: (.*)|([a-z][a-z -]*):)", text, re.M)
    return frozenset(name for line in lines for part in line for name in part.split())


@cache
def _rust() -> str:
    names = (n for n in files() if n.endswith(".rs") and n.startswith(("src/", "tests/", "crates/")))
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in sorted(names))


@cache
def has_function_that_begins(name: str) -> bool:
    return bool(re.search(rf"\bfn {name}", _rust()))


@cache
def words() -> frozenset[str]:
    """All names in the sources of both languages, the example configuration and the examples."""
    others = (n for n in files() if n.startswith(("export/src/", "systemd/", "examples/")) and ".md" not in n)
    texts = [_rust(), *((ROOT / name).read_text(encoding="utf-8") for name in others)]
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@cache
def sources() -> str:
    """The Rust sources with continued strings in one line, and without escapes."""
    return re.sub(r"\\\n\s*", "", _rust()).replace('\\"', '"')
