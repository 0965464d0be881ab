"""Options from dataclasses: defaults, types, ranges and help."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from weakrest_export import options
from weakrest_export.errors import ExportError
from weakrest_export.options import Option, Range
from weakrest_export.settings import BackboneSettings, ClickSettings, HeadSettings, SynthesisSettings
from weakrest_export.work import Product, Work


@dataclass(frozen=True)
class Settings:
    inner: Annotated[int, Range(least=1)]
    count: Annotated[int, Range(least=1), Option("100 % of them", "N")] = 4
    parts: Annotated[tuple[Literal["a", "b"], ...], Option("parts")] = ()
    sizes: Annotated[tuple[float, ...] | None, Option("sizes", unset="all")] = None
    folder: Annotated[Path | None, Option("folder", "DIR", flag="--into")] = None
    fast: Annotated[bool, Option("be fast")] = False

    def __post_init__(self) -> None:
        options.check(self)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    options.add(made, Settings, count=5)
    return made


def test_fields_become_options_and_options_fields() -> None:
    given = parser().parse_args(["--parts", "b", "a", "--sizes", "1", "2.5", "--into", "x", "--fast"])
    assert options.read(Settings, given, inner=1) == Settings(1, 5, ("b", "a"), (1.0, 2.5), Path("x"), True)
    assert options.read(Settings, parser().parse_args([]), inner=2) == Settings(2, 5)


def test_help_shows_defaults() -> None:
    shown = " ".join(parser().format_help().split())
    assert "--count N 100 % of them (default: 5)" in shown
    assert "sizes (default: all)" in shown
    assert "--fast be fast" in shown
    assert "inner" not in shown


@pytest.mark.parametrize(
    ("inner", "count", "message"), [(0, 1, "inner 0: must be"), (1, -2, "count -2: must")]
)
def test_ranges_are_checked_on_every_field(inner: int, count: int, message: str) -> None:
    with pytest.raises(ExportError, match=f"{message}.*at least 1"):
        Settings(inner, count)


@pytest.mark.parametrize("arguments", [["--count", "x"], ["--parts", "c"], ["--inner", "1"]])
def test_refuses_other_types_choices_and_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(arguments)


@pytest.mark.parametrize("settings", [BackboneSettings, SynthesisSettings, HeadSettings, ClickSettings, Work])
def test_every_settings_class_makes_a_parser(settings: type) -> None:
    options.add(argparse.ArgumentParser(), settings)


def test_several_products_have_folders_of_their_own() -> None:
    work, nut = Work(Path("work"), seed=3), Product(Path("a/nut.weakrest"), Path("good"))
    assert work.of(1, 0, nut) == work
    assert work.of(2, 1, nut) == Work(Path("work/01-nut"), seed=3)
