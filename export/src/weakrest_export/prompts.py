"""Phrases for defects: for synthetic defects, and from files for a product.

A prompts file is JSON with a list of phrases for each type of defect of the label file. `weakrest label`
reads the same file:

    {"scratch": ["a thin scratch", "a fine line on the surface"], "dark stain": ["a stain"]}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from weakrest_export.errors import ExportError
from weakrest_export.files import read_text
from weakrest_export.json_text import parse_json

Phrases = Mapping[str, Sequence[str]]

SYNTHETIC: Phrases = {
    "blob": ("a blob of foreign matter", "a piece of something else", "a contamination", "dirt"),
    "stain": ("a stain", "a dark spot", "a discolored spot", "an oil stain"),
    "object": ("a foreign object", "something that does not belong there", "a foreign body"),
    "scratch": ("a thin scratch", "a fine line scratched into the surface", "a scratch mark", "a scuff"),
    "crack": ("a thin crack", "a dark jagged line", "a fissure", "a hairline crack"),
    "spots": ("small spots", "several tiny dots", "specks", "pinholes"),
    "chip": ("a chip at the edge", "a small piece broken off the rim", "a nick", "a missing corner"),
    "break": ("a broken area", "a large piece broken out", "a fracture", "breakage"),
    "dent": ("a dent", "a deformed area", "a bump in the surface", "a dented spot"),
    "fray": ("a frayed area", "a roughened surface", "a worn patch", "an abraded area"),
    "part": ("a part of another color", "a discolored part", "a wrong part"),
    "band": ("a band across the part", "a wide stripe", "a strip of different texture"),
    "shading": ("an uneven area", "a large shade", "a broad dark area", "an unevenly ground surface"),
}
"""Phrases for the kinds of synthetic defects, see `defects.KINDS`."""


def read(path: Path) -> Phrases:
    """Reads the phrases of a file.

    Raises:
        ExportError: if it is no prompts file, or a phrase has no letter.
    """
    found = parse_json(read_text(path), str(path))
    if not isinstance(found, dict):
        raise ExportError(f'{path}: must be an object such as {{"scratch": ["a thin scratch"]}}')
    for kind, phrases in found.items():
        where = f"{path}: {kind}"
        if not isinstance(phrases, list) or not phrases:
            raise ExportError(f'{where}: must be a list of phrases, such as ["a thin scratch"]')
        for phrase in phrases:
            if not isinstance(phrase, str) or not any(sign.isalpha() for sign in phrase):
                raise ExportError(f"{where}: {phrase!r} is not a phrase: write words, such as a thin scratch")
    return dict(found)


def merged(own: Phrases, others: Phrases) -> Phrases:
    """All phrases of both, the product's first."""
    kinds = dict.fromkeys([*own, *others])
    return {kind: list(dict.fromkeys([*own.get(kind, ()), *others.get(kind, ())])) for kind in kinds}


def of_products(path: Path, products: Sequence[str]) -> list[list[str]]:
    """Reads the phrases for each of these products from a file with products instead of types.

    Raises:
        ExportError: see `read`; if a product has no phrases, or two products have one name.
    """
    known = read(path)
    for at, product in enumerate(products):
        if product not in known:
            raise ExportError(f"{path}: has no phrases for {product}: add them, or rename its package")
        if product in products[:at]:
            raise ExportError(f"{path}: two packages are named {product}: rename one of them")
    return [list(known[product]) for product in products]


def phrases_of(kind: str | None, known: Phrases) -> list[str]:
    """Phrases for a picture with defects of one type, or of several types joined by `+`."""
    if kind is None:
        return []
    if kind in known:
        return list(known[kind])
    parts = [known[part] for part in kind.split("+") if part in known]
    # The part with the fewest phrases sets the number.
    return [" and ".join(words) for words in zip(*parts, strict=False)] if parts else []
