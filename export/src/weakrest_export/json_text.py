"""Reads JSON that people write: strictly, with errors that name the place."""

import json
from typing import Any

from weakrest_export.errors import ExportError


def parse_json(text: str, where: str) -> Any:
    """Parses JSON by the standard: no NaN, no duplicate keys.

    Raises:
        ExportError: starting with `where`.
    """

    def constant(name: str) -> None:
        raise ExportError(f"{where}: {name} is not a JSON number: correct or remove it")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            twice = next(key for i, (key, _) in enumerate(items) if key in dict(items[:i]))
            raise ExportError(f"{where}: duplicate key {twice!r}: remove one")
        return made

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise ExportError(f"{where}: not JSON: {error.msg} at {at}") from error
    except ValueError:
        raise ExportError(f"{where}: not JSON: a number has too many digits") from None
    except RecursionError:
        raise ExportError(f"{where}: not JSON: nested too deeply") from None


def numbers(value: object, n: int, where: str) -> list[float]:
    """Reads a JSON list of `n` finite numbers.

    Raises:
        ExportError: starting with `where`.
    """
    if not isinstance(value, list) or len(value) != n:
        raise ExportError(f"{where}: must be a list of {n} numbers, not {shown(value)}")
    return [number(item, where) for item in value]


def number(value: object, where: str) -> float:
    """Reads a finite JSON number.

    Raises:
        ExportError: starting with `where`.
    """
    # Python counts booleans as integers, and an integer may be too long for a float.
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        return float(value)
    raise ExportError(f"{where}: must be a number, not {shown(value)}")


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
