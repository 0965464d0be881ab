"""What the programs say of themselves: sub-commands, flags, configuration keys."""

import os
import re
import subprocess
import tempfile
from functools import cache, cached_property
from pathlib import Path

from tree import ROOT

PATIENCE = 60.0
# Commands with commands of their own.
GROUPS = ("account", "audit", "labels", "package")


class Programs:
    """The binary, and the Python package where there is an interpreter for it."""

    def __init__(self, weakrest: Path, python: Path | None) -> None:
        self.weakrest = weakrest.resolve()
        self.python = python.absolute() if python else None
        self.environment = os.environ | {"PYTHONPATH": str(ROOT / "export/src"), "COLUMNS": "200"}
        library = ROOT / "target/onnxruntime/libonnxruntime.so"
        if library.exists():
            self.environment.setdefault("ORT_DYLIB_PATH", str(library))
        self.output = cache(self._output)

    def names(self) -> list[str]:
        return ["weakrest", "weakrest-export"] if self.python else ["weakrest"]

    def _output(self, *command: str | Path) -> str:
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        return ended.stdout + ended.stderr

    def help(self, program: str, *names: str) -> str:
        if program == "weakrest":
            return self.output(self.weakrest, *names, "--help")
        return self.output(self.python or "python3", "-m", "weakrest_export", *names, "--help")

    def subcommands(self, program: str, *names: str) -> frozenset[str]:
        if names and names[-1] not in GROUPS:
            return frozenset()
        text = self.help(program, *names)
        listed = set(re.findall(r"^ {2,6}([a-z][a-z-]*)(?: {2}|$)", text, re.M))
        return frozenset(listed - {"help"})

    def has_flag(self, flag: str, program: str, *names: str) -> bool:
        return bool(re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", self.help(program, *names)))

    def flag_somewhere(self, flag: str) -> bool:
        for program in self.names():
            for name in self.subcommands(program):
                if self.has_flag(flag, program, name):
                    return True
                if any(self.has_flag(flag, program, name, n) for n in self.subcommands(program, name)):
                    return True
        return not self.python

    @cached_property
    def keys(self) -> dict[str, set[str]]:
        """The configuration's keys by table: the program lists them when it meets an unknown one."""
        start = '[inspection]\npackage = "x"\n'
        folder = '[camera]\nkind = "folder"\npath = "x"\nrate = 1.0\n'
        keys: dict[str, set[str]] = {}
        for table in self._expected("no_such_key = 1\n" + start + folder):
            keys[table] = self._expected(start + folder + f"[{table}]\nno_such_key = 1\n")
        keys["inspection"] = self._expected("[inspection]\nno_such_key = 1\n")
        keys["camera"] = {"kind"} | self._expected(start + folder + "no_such_key = 1\n")
        for kind in ("v4l2", "command", "genicam"):
            keys["camera"] |= self._expected(start + f'[camera]\nkind = "{kind}"\nno_such_key = 1\n')
        return keys

    def _expected(self, text: str) -> set[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            said = self._output(self.weakrest, "check", "--config", file.name).splitlines()
        listed = re.search(r"the keys are ([a-z_, ]+)", said[0]) if said else None
        return set(listed[1].split(", ")) if listed else set()
