"""ADClick: clicks, the network, its training and its files."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from shards import BACKBONE, CHANNELS, write_shards

from weakrest_export import adclick_export, adclick_train, click_metrics, prompts, text
from weakrest_export.adclick import GUIDES, PROMPT, RADIUS, STRIDE, AdClick, Shape
from weakrest_export.adclick_train import Sample, normalized_focal, share_of
from weakrest_export.clicks import Click, disks, next_click
from weakrest_export.errors import ExportError
from weakrest_export.residuals import Residuals
from weakrest_export.settings import ClickSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GRID = 6


def samples(folder: Path, count: int = 8, block: int = 8) -> list[Sample]:
    """Noise with a dark square, whose residuals stick out; the first half has none."""
    generator = torch.Generator().manual_seed(0)
    tensors, pictures, shares = [], [], []
    for at in range(count):
        residuals = torch.randn(3, GRID, GRID, CHANNELS, generator=generator) / 4
        picture = torch.randn(3, block * GRID, block * GRID, generator=generator) / 4
        cells = block // STRIDE
        share = np.zeros((cells * GRID, cells * GRID), np.float32)
        if at >= count // 2:
            row, col = (int(v) for v in torch.randint(GRID - 2, (2,), generator=generator))
            residuals[:, row : row + 2, col : col + 2] += 3
            picture[:, block * row :, block * col :][:, : 2 * block, : 2 * block] -= 3
            share[cells * row :, cells * col :][: 2 * cells, : 2 * cells] = 1
        tensors.append(residuals.half())
        pictures.append(picture.half())
        shares.append(share)
    read = Residuals(write_shards(folder, tensors, pictures=pictures, stride=block))
    return [
        Sample(read, at, share, "synthetic" if share.any() else "good") for at, share in enumerate(shares)
    ]


def test_a_click_is_a_disk_and_kinds_are_apart() -> None:
    # As the inspector's own test has it: cells' centers lie 1, 3, 5 … pixels from the clicks.
    maps = disks([Click(16, 16, True), Click(0, 32, False)], (16, 16))
    assert maps.sum((1, 2)).tolist() == [16, 4]
    assert maps[0, 7, 7] == maps[1, 15, 0] == 1


def test_the_next_click_is_deep_in_what_is_most_wrong() -> None:
    truth = np.zeros((20, 20), bool)
    truth[2:9, 2:9] = True
    truth[15:17, 15:17] = True
    known = np.ones_like(truth)
    assert next_click(truth, np.zeros_like(truth), known) == Click(11, 11, True)
    extra = truth.copy()
    extra[11:20, 0:11] = True
    assert next_click(truth, extra, known) == Click(9, 31, False)
    assert next_click(truth, truth, known) is None
    known[10:] = False
    assert next_click(truth, extra, known) is None
    for seed in range(20):
        click = next_click(truth, np.zeros_like(truth), known, np.random.default_rng(seed))
        assert click is not None and click.positive
        assert 6 <= click.x <= 16 and 6 <= click.y <= 16


def test_masks_lie_on_their_cells_and_nothing_lies_beyond_the_picture() -> None:
    mask = np.zeros((30, 50), bool)
    mask[:, :10] = True
    picture = {"grid": (2, 4), "content": (25, 15), "frame": (50, 30)}
    share = share_of(mask, picture, 8)
    assert share.shape == (8, 16)
    # Twice as large as scaled: 10 pixels are 5, two cells and a half.
    assert share[0].tolist()[:4] == [1, 1, 0.5, 0]
    assert np.isnan(share[:, 13:]).all() and not np.isnan(share[:, :13]).all()
    assert share_of(None, picture, 8)[0, 0] == 0
    # What is only boxed is not known, but for what the mask says of it.
    boxed = share_of(mask, picture, 8, [[(4, 0), (30, 0), (30, 8), (4, 8)]])
    assert boxed[0].tolist()[:3] == [1, 1, 0.5] and np.isnan(boxed[:2, 3:7]).all()
    assert boxed[2:7, 3:7].tolist() == [[0] * 4] * 5


def test_the_loss_does_not_fade_with_the_errors() -> None:
    share = torch.zeros(1, 8, 8)
    share[0, 0, 0] = 1
    share[0, 7] = float("nan")
    nearly = torch.full((1, 8, 8), -6.0)
    nearly[0, 0, 0] = -2
    loss = normalized_focal(nearly, share, 2.0)
    # The one wrong cell has nearly all of the weight, though it is one in 56.
    assert loss.item() == pytest.approx(np.log1p(np.exp(2)), rel=0.01)


@pytest.mark.parametrize("block", [8, 16])
def test_the_network_takes_any_grid_and_its_prompt_is_silent_at_first(block: int) -> None:
    torch.manual_seed(0)
    network = AdClick(Shape(CHANNELS, block, width=32, depth=2)).eval()
    cells = block // STRIDE
    for rows, cols in ((1, 1), (3, 9), (10, 8)):
        inputs = (
            torch.randn(1, rows, cols, CHANNELS),
            torch.randn(1, 3, block * rows, block * cols),
            torch.zeros(1, GUIDES, cells * rows, cells * cols),
        )
        with torch.inference_mode():
            silent = network(*inputs, torch.zeros(1, PROMPT))
            spoken = network(*inputs, torch.randn(1, PROMPT))
        assert silent.shape == (1, cells * rows, cells * cols)
        assert torch.equal(silent, spoken)
    with pytest.raises(ExportError, match="multiple of 32"):
        Shape(CHANNELS, width=33)
    with pytest.raises(ExportError, match="multiple of 8"):
        Shape(CHANNELS, 4)


@pytest.mark.parametrize("block", [8, 16])
def test_it_learns_to_follow_clicks_and_its_files_say_the_same(tmp_path: Path, block: int) -> None:
    pictures = samples(tmp_path / "residuals", block=block)
    log: list[float] = []
    settings = ClickSettings(width=32, depth=1, steps=30, batch=4, crop=GRID, seed=1)
    network = adclick_train.train(pictures, settings, report=lambda entry: log.append(entry["loss"]))
    assert log[-1] < 0.7 * log[0]
    cases = [click_metrics.Case(s, s.share.repeat(2, 0).repeat(2, 1) > 0.5, "square") for s in pictures[-2:]]
    result = click_metrics.measure(cases, click_metrics.with_network(network), most=3, report=2)
    untrained = AdClick(network.shape).eval()
    before = click_metrics.measure(cases, click_metrics.with_network(untrained), most=3, report=2)
    assert result.precision[1] > before.precision[1] + 0.2

    # Where a mask begins is chosen by what it covers then.
    hesitant = copy.deepcopy(network)
    with torch.no_grad():
        hesitant.classify.bias.sub_(0.75)
    masks = click_metrics.with_network(hesitant)
    missed = click_metrics.measure(cases, masks, most=3, report=3).overlap
    click_metrics.calibrated(hesitant, pictures, seed=0)
    found = click_metrics.measure(cases, masks, most=3, report=3).overlap
    assert sum(found) > sum(missed)

    words = [adclick_export.Prompt("square", "a dark square", np.full(PROMPT, 0.1, np.float32))]
    made = adclick_export.export(network, BACKBONE, setting="clicks", source="test", prompts=words)
    assert made.difference <= adclick_export.TOLERANCE
    path = adclick_export.write(made, tmp_path)
    assert {p.name for p in tmp_path.glob("adclick.*")} == {
        "adclick.onnx",
        "adclick.toml",
        "adclick.safetensors",
    }
    assert load_file(path.with_suffix(".safetensors"))["vectors"].shape == (1, PROMPT)
    head = adclick_export.export_head(network, BACKBONE, setting="clicks", source="test")
    said = tomllib.loads(head.manifest.to_toml())
    assert (said["kind"], said["cell"]) == ("seeing-head", STRIDE)
    said = tomllib.loads(path.with_suffix(".toml").read_text("utf-8"))
    assert (said["kind"], said["cell"], said["radius"], said["prompt"]) == ("clicks", STRIDE, RADIUS, PROMPT)
    again = adclick_train.train(pictures, settings)
    for name, value in again.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_there_must_be_a_defect_to_learn(tmp_path: Path) -> None:
    goods = [s for s in samples(tmp_path / "residuals") if s.kind == "good"]
    with pytest.raises(ExportError, match="no pixel is labeled defective"):
        adclick_train.train(goods, ClickSettings(steps=1))


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="steps -5: must be at least 1"):
        ClickSettings(steps=-5)
    mine = samples(tmp_path / "residuals")
    others = write_shards(
        tmp_path / "others", [torch.zeros(3, GRID, GRID, CHANNELS).half()], backbone="c" * 64
    )
    foreign = Sample(Residuals(others), 0, mine[0].share, "good")
    with pytest.raises(ExportError, match="made with another backbone"):
        adclick_train.train([*mine, foreign], ClickSettings(steps=1))


def test_residuals_without_pictures_are_told(tmp_path: Path) -> None:
    read = Residuals(write_shards(tmp_path / "residuals", [torch.zeros(3, 2, 2, CHANNELS).half()]))
    with pytest.raises(ExportError, match="--pictures"):
        read.read_picture(0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"scratch": [', "not JSON"),
        ("[]", "must be an object"),
        ('{"scratch": "a scratch"}', "must be a list"),
        ('{"scratch": []}', "must be a list"),
        ('{"scratch": ["12"]}', "is not a phrase"),
    ],
)
def test_prompts_that_are_none_are_refused_by_file_and_type(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    with pytest.raises(ExportError, match=f"prompts.json.*{said}"):
        prompts.read(file)


def test_phrases_of_several_types_are_joined() -> None:
    known = {"a": ["one", "two"], "b": ["three", "four"]}
    assert prompts.phrases_of("a", known) == ["one", "two"]
    assert prompts.phrases_of("a+b", known) == ["one and three", "two and four"]
    assert prompts.phrases_of("c", known) == prompts.phrases_of(None, known) == []
    assert prompts.merged({"a": ["five", "one"]}, known) == {
        "a": ["five", "one", "two"],
        "b": ["three", "four"],
    }


def test_the_text_encoder_knows_what_is_alike() -> None:
    vectors = text.TextEncoder().encode(["a thin scratch", "a fine line in the metal", "a blob of oil"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
