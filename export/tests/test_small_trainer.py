"""The trainer in Rust, `weakrest train`, is compared with this package: a fixed batch, and block labels.

`python test_small_trainer.py` writes the files that its tests read. These tests see that they are still true.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weakrest_export import blocks
from weakrest_export.anchored import Anchored, log_lengths
from weakrest_export.head import Head, Shape
from weakrest_export.optimizer import Optimizer
from weakrest_export.resmixmatch import focal, squared
from weakrest_export.settings import HeadSettings

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "crates/swinhead/tests/reference.json"
BLOCKS = ROOT / "tests/data/blocks.json"
LETTERS = {blocks.POSITIVE: "#", blocks.NEGATIVE: ".", blocks.IGNORED: "-", blocks.UNKNOWN: "?"}
ROWS, COLS, SCALES, STEPS = 9, 11, (2, 4), 3


def weights(head: Anchored) -> None:
    """Sets weights that need no file: sines, by the place in a matrix `[in, out]` and its name's rank."""
    state = head.head.state_dict()
    for rank, name in enumerate(sorted(state)):
        tensor = state[name]
        matrix = tensor.ndim == 2 and not name.endswith("attention.bias")
        size = tensor.T.shape if matrix else tensor.shape
        made = 0.1 * np.sin(0.7 * np.arange(tensor.numel()) + 1.3 * rank).reshape(size)
        if tensor.ndim == 1 and name.endswith("weight"):
            made += 1
        tensor.copy_(torch.from_numpy(made.T if matrix else made))


def batch() -> dict[str, Tensor]:
    """Two pictures. The second is good, and has guesses."""
    count = 2 * ROWS * COLS * sum(SCALES)
    residuals = torch.from_numpy(2 * np.sin(0.37 * np.arange(count))).float()
    at = torch.arange(ROWS * COLS).repeat(2, 1).reshape(2, ROWS, COLS)
    guessed = at % 7 == 0
    guessed[0] = False
    targets = torch.where(guessed, 0.3 + 0.2 * (at % 3), (at % 5 == 0).float())
    return {
        "residuals": residuals.reshape(2, ROWS, COLS, sum(SCALES)),
        "targets": targets,
        "labeled": (at % 5 != 1) & ~guessed,
        "guessed": guessed,
        "weights": 1 + 0.5 * (at % 4 == 0),
    }


def reference() -> dict[str, Any]:
    settings = HeadSettings(width=32, steps=10)
    heads = [Anchored(Head(Shape(sum(SCALES), 32, 2)), 8) for _ in range(2)]
    for head in heads:
        weights(head)
    head, average = heads
    optimizer = Optimizer(head, average.requires_grad_(False), settings)
    made = batch()
    lengths = log_lengths(made["residuals"], SCALES)
    losses = []
    with torch.no_grad():
        first = head(made["residuals"], lengths)
    for step in range(STEPS):
        judged = head(made["residuals"], lengths)
        count = (made["labeled"] | made["guessed"]).sum()
        each = focal(judged.blocks, made["targets"], settings.alpha, settings.gamma) * made["weights"]
        ramp = min(1.0, step / (settings.ramp * settings.steps))
        parts = [
            (each * made["labeled"]).sum() / count,
            ramp * (squared(judged.blocks, made["targets"]) * made["guessed"]).sum() / count,
            settings.picture * F.binary_cross_entropy_with_logits(judged.pictures, torch.tensor([1.0, 0.0])),
        ]
        optimizer.step(torch.stack(parts).sum(), step)
        losses.append([part.item() for part in parts])
    with torch.no_grad():
        last = average(made["residuals"], lengths)
    return {
        "losses": losses,
        "first": first.blocks.softmax(-1)[..., 1].flatten().tolist(),
        "last": last.blocks.softmax(-1)[..., 1].flatten().tolist(),
    }


def rectangle(rng: np.random.Generator, frame: tuple[int, int]) -> list[int]:
    left, top = (int(rng.integers(0, side - 2)) for side in frame)
    width, height = (int(rng.integers(1, max(2, side // 3))) for side in frame)
    return [left, top, min(left + width, frame[0]), min(top + height, frame[1])]


def rotated(rng: np.random.Generator, frame: tuple[int, int]) -> list[list[float]]:
    middle, angle = rng.uniform(0.2, 0.8, 2) * frame, rng.uniform(0, 2 * np.pi)
    x, y = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    wide, high = rng.uniform(1, 15, 2)
    corners = [middle + a * wide * x + b * high * y for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [corner.round(2).tolist() for corner in corners]


def labeled() -> list[dict[str, Any]]:
    """Pictures with boxes and masks made of rectangles, and their blocks, a letter each."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(40):
        width, height = (int(side) for side in rng.integers(20, 120, 2))
        frame, factor = (width, height), float(rng.uniform(0.4, 1.5))
        content = max(1, round(width * factor)), max(1, round(height * factor))
        stride = int(rng.choice([8, 16]))
        cells = blocks.Cells(-(-content[1] // stride), -(-content[0] // stride), stride, content, frame)

        masks = [rectangle(rng, frame) for _ in range(int(rng.integers(1, 4)))] if number % 3 else []
        boxes = [rotated(rng, frame) for _ in range(int(rng.integers(1, 3)))] if number % 3 != 1 else []
        made = blocks.from_boxes(boxes, cells)
        if masks:
            bits = np.zeros(frame[::-1], bool)
            for left, top, right, bottom in masks:
                bits[top:bottom, left:right] = True
            exact = blocks.from_mask(bits, cells)
            kept = (made == blocks.UNKNOWN) & (exact != blocks.POSITIVE)
            made = np.where(kept, blocks.UNKNOWN, exact).astype(np.int8)
        rows = ["".join(LETTERS[int(block)] for block in row) for row in made]
        size = {"frame": frame, "content": content, "stride": stride}
        cases.append({**size, "boxes": boxes, "masks": masks, "blocks": rows})
    return cases


def test_the_file_of_blocks_is_true() -> None:
    assert json.loads(BLOCKS.read_text()) == json.loads(json.dumps(labeled()))


def test_the_file_of_the_small_trainer_is_true() -> None:
    kept, made = json.loads(FILE.read_text()), reference()
    assert kept.keys() == made.keys()
    for key, values in made.items():
        np.testing.assert_allclose(kept[key], values, atol=1e-5)


if __name__ == "__main__":
    rounded = {key: np.round(values, 7).tolist() for key, values in reference().items()}
    FILE.write_text(json.dumps(rounded) + "\n")
    BLOCKS.write_text("[\n" + ",\n".join(json.dumps(case) for case in labeled()) + "\n]\n")
