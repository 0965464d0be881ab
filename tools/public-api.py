#!/usr/bin/env python3
"""Compares the public items of weakrest and posfar with docs/public-api.txt: `public-api.py [--write]`.

A changed list is a changed promise to programs that use the libraries. `--write` accepts it. Every public
type must occur in an example: in a documentation's code block, or in a file of examples/.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "public-api.txt"
CRATES = {"posfar": ROOT / "crates" / "posfar", "weakrest": ROOT}
# The format of rustdoc's JSON is not stable; this script was written for these versions.
FORMATS = (57,)
UPDATE = "run `make public-api` and commit docs/public-api.txt"


def rustdoc(crate: str) -> dict:
    """What rustdoc knows of a crate."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    # Only rustdoc may see this variable: build scripts of dependencies would run again.
    wrapper = target / "rustdoc-json.sh"
    target.mkdir(exist_ok=True)
    wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
    wrapper.chmod(0o755)
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "rustdoc", "--quiet", "--locked", "--package", crate, "--lib", "--"]
    command += ["-Z", "unstable-options", "--output-format", "json"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "RUSTDOC": str(wrapper)})
    found = json.loads((target / "doc" / f"{crate}.json").read_text())
    if found["format_version"] not in FORMATS:
        print(f"public-api.py: SKIP: rustdoc's JSON has format {found['format_version']}", file=sys.stderr)
        sys.exit(0)
    return found


def joined(parts: list, render, separator: str = ", ") -> str:
    return separator.join(render(part) for part in parts)


def arguments(args: dict | None) -> str:
    """Of a path: `<u8, 'a>` or `(u8) -> bool`."""
    if args and "parenthesized" in args:
        call = args["parenthesized"]
        return f"({joined(call['inputs'], kind)})" + returned(call["output"])
    angle = (args or {}).get("angle_bracketed", {})
    parts = [
        kind(a["type"]) if "type" in a else str(a.get("lifetime", a.get("const", {})))
        for a in angle.get("args", [])
    ]
    for constraint in angle.get("constraints", []):
        equal = constraint["binding"].get("equality", {})
        parts.append(f"{constraint['name']} = {kind(equal['type']) if 'type' in equal else '…'}")
    return f"<{', '.join(parts)}>" if parts else ""


def bound(bound: dict) -> str:
    if "trait_bound" not in bound:
        return str(bound.get("outlives", "?"))
    trait = bound["trait_bound"]["trait"]
    return trait["path"].split("::")[-1] + arguments(trait["args"])


def returned(output: dict | None) -> str:
    return f" -> {kind(output)}" if output else ""


def kind(type_: dict) -> str:
    """A type as Rust writes it, paths without their modules."""
    ((tag, of),) = type_.items() if isinstance(type_, dict) else (("name", type_),)
    match tag:
        case "resolved_path":
            return of["path"].split("::")[-1] + arguments(of["args"])
        case "primitive" | "generic":
            return "()" if of == "unit" else of
        case "tuple":
            return f"({joined(of, kind)})"
        case "slice":
            return f"[{kind(of)}]"
        case "array":
            return f"[{kind(of['type'])}; {of['len']}]"
        case "borrowed_ref":
            lifetime = of["lifetime"] + " " if of["lifetime"] else ""
            return f"&{lifetime}{'mut ' if of['is_mutable'] else ''}{kind(of['type'])}"
        case "impl_trait":
            return f"impl {joined(of, bound, ' + ')}"
        case "dyn_trait":
            traits = joined([{"trait_bound": t} for t in of["traits"]], bound, " + ")
            return f"dyn {traits}" + (f" + {of['lifetime']}" if of["lifetime"] else "")
        case "function_pointer":
            return f"fn({joined([i[1] for i in of['sig']['inputs']], kind)}){returned(of['sig']['output'])}"
        case "qualified_path":
            return f"{kind(of['self_type'])}::{of['name']}"
        case _:
            return str(tag)


def generics(of: dict) -> str:
    parts = []
    for parameter in of["params"]:
        (tag, detail) = next(iter(parameter["kind"].items()))
        if tag == "type" and not detail["is_synthetic"]:
            bounds = joined(detail["bounds"], bound, " + ")
            default = f" = {kind(detail['default'])}" if detail.get("default") else ""
            parts.append(parameter["name"] + (f": {bounds}" if bounds else "") + default)
        elif tag != "type":
            parts.append(parameter["name"])
    return f"<{', '.join(parts)}>" if parts else ""


def function(item: dict) -> str:
    of = item["inner"]["function"]
    own = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}
    inputs = [
        own.get(kind(t), f"self: {kind(t)}") if n == "self" else f"{n}: {kind(t)}"
        for n, t in of["sig"]["inputs"]
    ]
    return f"{generics(of['generics'])}({', '.join(inputs)}){returned(of['sig']['output'])}"


class Api:
    """The public items of a crate, one line each."""

    def __init__(self, crate: str) -> None:
        found = rustdoc(crate)
        self.index, self.paths = found["index"], found["paths"]
        self.places: dict[int, list[str]] = {}
        self.lines: list[str] = []
        self.types: set[str] = set()
        self.walk(found["root"], crate)
        for identifier, places in self.places.items():
            places.sort(key=lambda place: (place.count("::"), place))
            self.describe(identifier, places[0])
            self.lines += [f"use {place} = {places[0]}" for place in places[1:]]
        self.lines.sort(key=lambda line: re.findall(r"[\w:]+", line)[1:])

    def walk(self, identifier: int, place: str) -> None:
        """Notes the places of everything within a module."""
        self.places.setdefault(identifier, []).append(place)
        for child in self.index[str(identifier)]["inner"]["module"]["items"]:
            item = self.index[str(child)]
            if "use" in item["inner"]:
                self.reexport(item["inner"]["use"], place)
            elif "module" in item["inner"]:
                self.walk(child, f"{place}::{item['name']}")
            elif item["visibility"] == "public":
                self.places.setdefault(child, []).append(f"{place}::{item['name']}")

    def reexport(self, use: dict, place: str) -> None:
        target = self.index.get(str(use["id"]))
        if target is None:
            self.lines.append(f"use {place}::{use['name']} = {use['source']}")
        elif use["is_glob"]:
            for child in target["inner"].get("module", {}).get("items", []):
                self.places.setdefault(child, []).append(f"{place}::{self.index[str(child)]['name']}")
        elif "module" in target["inner"]:
            self.walk(use["id"], f"{place}::{use['name']}")
        else:
            self.places.setdefault(use["id"], []).append(f"{place}::{use['name']}")

    def describe(self, identifier: int, place: str) -> None:
        item = self.index[str(identifier)]
        ((tag, of),) = item["inner"].items()
        match tag:
            case "struct" | "enum" | "union":
                self.lines.append(f"{tag} {place}{generics(of['generics'])}")
                self.types.add(place)
                for child in of.get("variants", []):
                    self.variant(self.index[str(child)], place)
                self.fields(of.get("kind"), place)
                for implementation in of["impls"]:
                    inner = self.index[str(implementation)]["inner"]["impl"]
                    if inner["trait"] is None:
                        self.members(inner["items"], place)
            case "trait":
                self.lines.append(f"trait {place}{generics(of['generics'])}")
                self.types.add(place)
                self.members(of["items"], place, of_trait=True)
            case "function":
                self.lines.append(f"fn {place}{function(item)}")
            case "constant":
                self.lines.append(f"const {place}: {kind(of['type'])}")
            case "static":
                self.lines.append(f"static {place}: {kind(of['type'])}")
            case "type_alias":
                self.lines.append(f"type {place}{generics(of['generics'])} = {kind(of['type'])}")
            case "module":
                self.lines.append(f"mod {place}")
            case _:
                self.lines.append(f"{tag} {place}")

    def fields(self, of: dict | str | None, place: str) -> None:
        if not isinstance(of, dict):
            return
        for child in of["plain"]["fields"] if "plain" in of else of.get("tuple", []):
            if child is not None:
                field = self.index[str(child)]
                self.lines.append(f"field {place}::{field['name']}: {kind(field['inner']['struct_field'])}")

    def variant(self, item: dict, place: str) -> None:
        of = item["inner"]["variant"]["kind"]
        fields = []
        if isinstance(of, dict):
            fields = of["tuple"] if "tuple" in of else of["struct"]["fields"]
        named = [self.index[str(f)] for f in fields if f is not None]
        inner = ", ".join(
            kind(f["inner"]["struct_field"])
            if f["name"].isdigit()
            else f"{f['name']}: {kind(f['inner']['struct_field'])}"
            for f in named
        )
        self.lines.append(f"variant {place}::{item['name']}" + (f"({inner})" if inner else ""))

    def members(self, items: list, place: str, *, of_trait: bool = False) -> None:
        for child in items:
            item = self.index.get(str(child))
            if item is None or not (of_trait or item["visibility"] == "public"):
                continue
            ((tag, of),) = item["inner"].items()
            name = f"{place}::{item['name']}"
            if tag == "function":
                self.lines.append(f"fn {name}{function(item)}")
            elif tag == "assoc_const":
                self.lines.append(f"const {name}: {kind(of['type'])}")
            else:
                self.lines.append(f"{tag} {name}")

    def without_example(self, folder: Path) -> list[str]:
        """Types that no code block of the documentation and no example names."""
        shown = [text for path in sorted((folder / "examples").glob("*.rs")) for text in [path.read_text()]]
        for item in self.index.values():
            shown += re.findall(r"^```(?!text|toml|sh|json).*?^```", item["docs"] or "", re.M | re.S)
        words = set(re.findall(r"\w+", "\n".join(shown)))
        return sorted(place for place in self.types if place.split("::")[-1] not in words)


def main() -> None:
    text, lacking = [], []
    for crate, folder in CRATES.items():
        api = Api(crate)
        fields = sum(line.startswith("field ") for line in api.lines)
        methods = sum(bool(re.match(r"(fn|const) .*::[A-Z]\w*::", line)) for line in api.lines)
        variants = sum(line.startswith("variant ") for line in api.lines)
        items = len(api.lines) - fields - methods - variants
        print(
            f"{crate}: {items} public items, {methods} methods, {fields} public fields, {variants} variants"
        )
        text.append(f"# {crate}\n" + "\n".join(api.lines) + "\n")
        lacking += api.without_example(folder)
    new, old = "\n".join(text), LIST.read_text() if LIST.exists() else ""
    if "--write" in sys.argv[1:]:
        LIST.write_text(new)
    elif new != old:
        before, after = set(old.splitlines()), set(new.splitlines())
        changes = [f"- {line}" for line in before - after] + [f"+ {line}" for line in after - before]
        print("\n".join(sorted(changes, key=lambda change: change[2:])))
        sys.exit(
            f"public-api.py: the public items differ from docs/public-api.txt; if that is meant, {UPDATE}"
        )
    if lacking:
        sys.exit("public-api.py: no example shows " + ", ".join(lacking))


if __name__ == "__main__":
    main()
