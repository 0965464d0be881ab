"""Command-line options from dataclasses.

A field of a settings dataclass is annotated with its help and its range. Default, type, range and help of an
option stand there, and nowhere else:

    steps: Annotated[int, Range(least=1), Option("training steps", "N")] = 400

`add` gives a parser one option per field with an `Option`. `read` makes the dataclass from the parsed
options.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from weakrest_export.errors import ExportError

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """A field that is also an option of the command line.

    Attributes:
        help: one line; the default is appended.
        metavar: name of the value in the help.
        flag: name of the option; None: the field's name.
        unset: what the help shows as the default where that is None or differs between commands.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    unset: str | None = None


@dataclass(frozen=True)
class Range:
    """Numbers that a field accepts.

    Attributes:
        least: smallest accepted value.
        above: largest value that is too small.
        multiple: the value must be a positive multiple of this.
    """

    least: float | None = None
    above: float | None = None
    multiple: int | None = None

    def problem(self, value: float) -> str | None:
        """What is wrong with a value."""
        if self.least is not None and value < self.least:
            return f"must be at least {self.least:g}"
        if self.above is not None and not value > self.above:
            return f"must be greater than {self.above:g}"
        if self.multiple is not None and (value < self.multiple or value % self.multiple):
            return f"must be a multiple of {self.multiple}"
        return None


@dataclass(frozen=True)
class _Field:
    name: str
    kind: Any
    default: Any
    option: Option | None
    range: Range | None


def check(settings: Any) -> None:
    """Raises ExportError for a field that is out of its range; for `__post_init__`."""
    for field in _fields(type(settings)):
        value = getattr(settings, field.name)
        problem = None if field.range is None or value is None else field.range.problem(value)
        if problem:
            raise ExportError(f"{field.name} {value}: {problem}")


def add(parser: argparse.ArgumentParser, settings: type, **defaults: Any) -> None:
    """Adds the options of a settings dataclass to a parser.

    Args:
        parser: of a command.
        settings: the dataclass.
        defaults: other defaults than the dataclass has, by field.
    """
    for field in _fields(settings):
        if field.option is None:
            continue
        default = defaults.get(field.name, field.default)
        flag = field.option.flag or f"--{field.name.replace('_', '-')}"
        if field.kind is bool:
            parser.add_argument(flag, dest=field.name, action="store_true", help=field.option.help)
            continue
        shown = field.option.unset or _shown(default)
        notes = [f"multiple of {field.range.multiple}"] if field.range and field.range.multiple else []
        notes += [f"default: {shown}"] if shown else []
        about = f"{field.option.help} ({'; '.join(notes)})" if notes else field.option.help
        several = get_origin(field.kind) is tuple
        kind = get_args(field.kind)[0] if several else field.kind
        choices = get_args(kind) if get_origin(kind) is Literal else None
        parser.add_argument(
            flag,
            dest=field.name,
            type=str if choices else kind,
            choices=choices,
            nargs="+" if several else None,
            required=default is dataclasses.MISSING,
            default=None if default is dataclasses.MISSING else default,
            metavar=field.option.metavar,
            help=about.replace("%", "%%"),
        )


def read(settings: type[T], options: argparse.Namespace, **fixed: Any) -> T:
    """Makes a settings dataclass of the parsed options.

    Args:
        settings: the dataclass.
        options: what the parser returned.
        fixed: values of fields that are no options.

    Raises:
        ExportError: for a value that is out of its range.
    """
    given = {field.name: getattr(options, field.name) for field in _fields(settings) if field.option}
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return settings(**(tuples | fixed))


def _fields(settings: type) -> Iterator[_Field]:
    hints = get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else [hint]
        if get_origin(kind) is UnionType:
            kind = next(part for part in get_args(kind) if part is not NoneType)
        option = next((mark for mark in marks if isinstance(mark, Option)), None)
        range = next((mark for mark in marks if isinstance(mark, Range)), None)
        yield _Field(field.name, kind, field.default, option, range)


def _shown(default: Any) -> str:
    if default is None or default is dataclasses.MISSING:
        return ""
    if isinstance(default, tuple):
        return " ".join(_shown(value) for value in default)
    return f"{default:g}" if isinstance(default, float) else str(default)
