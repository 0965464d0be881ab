"""Words for defects: those of the synthetic ones, and files with a product's own.

A prompts file is JSON, a list of phrases for each type of defect as the label file names it; `weakrest label`
takes the same file:

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
"""Of the kinds of synthetic defects, see `defects.KINDS`."""

MOST = 1000
"""Characters of a phrase."""


def read(path: Path) -> Phrases:
    """The phrases in a file.

    Raises:
        ExportError: when it is not such a file, or a phrase is empty, too long or has no letter.
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
                raise ExportError(f"{where}: {phrase!r} is no phrase: write words, such as a thin scratch")
            if len(phrase) > MOST:
                raise ExportError(f"{where}: a phrase has {len(phrase)} characters, but {MOST} at most")
    return dict(found)


def merged(own: Phrases, others: Phrases) -> Phrases:
    """All phrases of both, a product's own first."""
    kinds = dict.fromkeys([*own, *others])
    return {kind: list(dict.fromkeys([*own.get(kind, ()), *others.get(kind, ())])) for kind in kinds}


def of_products(path: Path, products: Sequence[str]) -> list[list[str]]:
    """The phrases that a file has for each of these products, the types of which are their names.

    Raises:
        ExportError: see `read`, or when it has none for a product, or two products have one name.
    """
    known = read(path)
    for at, product in enumerate(products):
        if product not in known:
            raise ExportError(
                f"{path}: has no phrases for {product}: add them, or name its package otherwise"
            )
        if product in products[:at]:
            raise ExportError(f"{path}: two packages are named {product}: rename one of them")
    return [list(known[product]) for product in products]


def phrases_of(kind: str | None, known: Phrases) -> list[str]:
    """What may be said of a picture whose defects are of one type, or of several joined by `+`."""
    if kind is None:
        return []
    if kind in known:
        return list(known[kind])
    parts = [known[part] for part in kind.split("+") if part in known]
    # As many as every part has, so that each phrase of each part comes up.
    return [" and ".join(words) for words in zip(*parts, strict=False)] if parts else []
