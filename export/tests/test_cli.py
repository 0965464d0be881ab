"""The command line: what a user sees."""

import subprocess
import sys
from pathlib import Path

import pytest

from weakrest_export.cli import main


def test_writes_the_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["efficientnet-lite0", "--scales", "16,8", "16", "--grid", "16", "--name", "small"]
    assert main(["backbone", *arguments, "--channels", "64", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "small.onnx").stat().st_size > 1e6
    assert "stride = 16" in (tmp_path / "small.toml").read_text("utf-8")
    out = capsys.readouterr().out
    assert "64 + 64 channels at stride 16, input sides multiples of 16" in out
    assert "license Apache-2.0" in out


def test_writes_a_vision_transformer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["timm:test_vit", "--weights", "none", "--blocks", "3,6:0.5", "6", "--half"]
    assert main(["backbone", *arguments, "--name", "small", "--out", str(tmp_path)]) == 0
    manifest = (tmp_path / "small.toml").read_text("utf-8")
    assert 'source = "timm:test_vit, random weights (for tests), blocks 3, 6"' in manifest
    assert "\nstride = 16\nmultiple = 16\n" in manifest
    out = capsys.readouterr().out
    assert "128 + 64 channels at stride 16, input sides multiples of 16" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timm:test_vit", "--blocks", "7"], "timm:test_vit has no block 7: it has blocks 1 to 6"),
        (["timm:test_vit", "--scales", "16"], "is a vision transformer: give --blocks instead of --scales"),
        (["efficientnet-lite7"], "unknown network 'efficientnet-lite7'"),
        (["efficientnet-lite0", "--scales", "4,64"], "no tap of stride 64: it has 2, 4, 8, 16, 32"),
        (
            ["efficientnet-lite0", "--scales", "4", "8,8"],
            "scale '8,8': give strides or blocks like 4,8,16:0.5",
        ),
        (["efficientnet-lite0", "--scales", "8:x"], "scale '8:x': give strides or blocks like 4,8,16:0.5"),
        (
            ["efficientnet-lite0", "--grid", "6"],
            "grid 6: a tap has stride 4, and one of the two must be a multiple of the other",
        ),
        (["efficientnet-lite0", "--channels", "1000"], "channels 1000: must be between 1 and the taps' 176"),
        (["efficientnet-lite0", "--name", "a/b"], "name 'a/b'"),
        (["efficientnet-lite0", "--out", "missing"], "output directory missing does not exist: create it"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["backbone", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("weakrest-export: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["backbone"], ["backbone", "x", "--grid", "eight"], ["frontbone"]])
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


COMMANDS = ("backbone", "synthesize", "train", "train-general", "train-adclick", "train-seg", "text-encoder")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_each_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    if "train" in command:
        steps = 600 if "-adclick" in command or "-seg" in command else 150
        assert f"training steps (default: {steps})" in shown
        assert ("features per block (multiple of 32; default: 128)" in shown) == (steps == 150)
        assert "another seed makes another network (default: 0)" in shown


def test_help_does_not_wait_for_pytorch() -> None:
    code = (
        "import sys, weakrest_export.cli as cli\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
