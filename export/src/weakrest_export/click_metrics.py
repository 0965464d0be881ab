"""Measures masks over the number of clicks, which are simulated on pictures outside the training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from weakrest_export import onnx_file
from weakrest_export.adclick import GUIDES, PROMPT, STRIDE, AdClick
from weakrest_export.adclick_export import INPUTS
from weakrest_export.adclick_train import Sample
from weakrest_export.clicks import Click, disks, next_click
from weakrest_export.scores import average_precision
from weakrest_export.shapes import Bits

Float = npt.NDArray[np.float32]

Segmenter = Callable[[Sample, Sequence[Click], Bits], Float]
"""From a sample, clicks and the previous mask to each cell's probability, `[h, w]`."""

IOU = 0.9
"""Intersection over union with the truth from which a mask is good enough."""


@dataclass(frozen=True)
class Case:
    """A picture to click on, its true mask `[height, width]`, and its kind of defect."""

    sample: Sample
    truth: Bits
    kind: str


@dataclass(frozen=True)
class Result:
    """Accuracy of masks over clicks.

    Attributes:
        precision: average precision over all pixels of all pictures, after 0, 1, 2 … clicks.
        overlap: mean intersection over union with the truth, after 0, 1, 2 … clicks.
        clicks: mean number of clicks until the overlap is `IOU`. A picture without such an overlap counts the
            largest number of clicks.
        by_kind: `overlap` of each kind of defect.
    """

    precision: list[float]
    overlap: list[float]
    clicks: float
    by_kind: dict[str, list[float]]


Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""ADClick: residuals, picture, guidance and prompt to logits `[N, h, w]`."""


def from_graph(model: bytes) -> Network:
    """Runs an exported ADClick, see `adclick_export`."""
    session = onnx_file.session(model)

    def run(residuals: Tensor, picture: Tensor, guidance: Tensor, prompt: Tensor) -> Tensor:
        inputs = (residuals, picture, guidance, prompt[:, None, None])
        (made,) = session.run(None, {n: v.numpy() for n, v in zip(INPUTS, inputs, strict=True)})
        return torch.from_numpy(made)[..., 0]

    return run


def with_network(network: Network, prompt_of: Callable[[Sample], Float] | None = None) -> Segmenter:
    """Masks of ADClick; `prompt_of` None: without prompts."""

    def segment(sample: Sample, clicks: Sequence[Click], before: Bits) -> Float:
        guidance = torch.zeros(1, GUIDES, *sample.share.shape)
        guidance[0, :2] = torch.from_numpy(disks(clicks, sample.share.shape))
        guidance[0, 2] = torch.from_numpy(before)
        words = np.zeros(PROMPT, np.float32) if prompt_of is None else prompt_of(sample)
        residuals = sample.residuals.read(sample.index)[:1].float()
        picture = sample.residuals.read_picture(sample.index)[None].float()
        with torch.inference_mode():
            logits = network(residuals, picture, guidance, torch.from_numpy(words)[None])
        made: Float = logits[0].sigmoid().numpy()
        return made

    return segment


def measure(cases: Sequence[Case], segment: Segmenter, most: int = 20, report: int = 5) -> Result:
    """Simulates clicks on each picture, each in the largest wrong area of the mask.

    Args:
        cases: pictures with at least one defective cell.
        segment: makes the masks.
        most: largest number of clicks on a picture.
        report: largest number of clicks with accuracy in the result.
    """
    maps: list[list[Float]] = [[] for _ in range(report + 1)]
    overlaps: list[list[float]] = [[] for _ in range(report + 1)]
    needed = []
    for case in cases:
        sample, clicks = case.sample, list[Click]()
        truth, known = sample.share > 0.5, ~np.isnan(sample.share)
        mask = np.zeros_like(truth)
        reached: int | None = None
        for count in range(most + 1):
            if count:
                click = next_click(truth, mask, known)
                if click is not None:
                    clicks.append(click)
            cells = segment(sample, clicks, mask)
            # Before the first click there is only a suggestion, which no click refines.
            mask = cells > 0.5 if count else mask
            whole = to_frame(cells, sample)
            found = whole > 0.5
            overlap = float((found & case.truth).sum() / max(1, (found | case.truth).sum()))
            if count <= report:
                maps[count].append(whole.ravel())
                overlaps[count].append(overlap)
            if count and overlap >= IOU and reached is None:
                reached = count
            if count >= report and reached is not None:
                break
        needed.append(reached or most)
    truths = np.concatenate([case.truth.ravel() for case in cases])
    kinds = sorted({case.kind for case in cases})
    return Result(
        [average_precision(np.concatenate(part), truths) for part in maps],
        [float(np.mean(part)) for part in overlaps],
        float(np.mean(needed)),
        {
            kind: [
                float(np.mean([o for o, c in zip(part, cases, strict=True) if c.kind == kind]))
                for part in overlaps
            ]
            for kind in kinds
        },
    )


SHIFTS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5)
"""Candidates for the logit at a mask's edge, see `calibrated`."""


FEW = 5
"""From this number on, real defects calibrate without synthetic ones."""


def calibrated(network: AdClick, samples: Sequence[Sample], seed: int, most: int = 32) -> AdClick:
    """Shifts the network's logits: masks above 0 then overlap best with the truth at 0 to 3 clicks.

    The training does not set the logit at a mask's edge: small errors hardly count in its loss.

    Args:
        network: in evaluation mode, on the CPU. It is changed and returned.
        samples: training samples. Defective ones are clicked on: real defects, if there are enough.
        seed: of the choice among them.
        most: number of samples to click on.
    """
    shown = [sample for sample in samples if (sample.share > 0.5).any()]
    np.random.default_rng(seed).shuffle(shown)
    real = [sample for sample in shown if sample.kind == "defective"]
    chosen = (real if len(real) >= FEW else shown)[:most]
    if not chosen:
        return network
    segment = with_network(network)
    overlaps = [np.mean([_overlap(sample, segment, shift) for sample in chosen]) for shift in SHIFTS]
    best = SHIFTS[int(np.argmax(overlaps))]
    bias = network.classify.bias
    if bias is not None:
        with torch.no_grad():
            bias.sub_(best)
    return network


def _overlap(sample: Sample, segment: Segmenter, shift: float, most: int = 3) -> float:
    """Mean intersection over union of the masks of 0 to `most` clicks, in cells."""
    truth, known = sample.share > 0.5, ~np.isnan(sample.share)
    least = 1 / (1 + math.exp(-shift))
    mask, clicks, overlaps = np.zeros_like(truth), list[Click](), []
    for count in range(most + 1):
        click = next_click(truth, mask, known) if count else None
        if click is not None:
            clicks.append(click)
        found = (segment(sample, clicks, mask) > least) & known
        overlaps.append((found & truth).sum() / (found | truth).sum())
        mask = found if count else mask
    return float(np.mean(overlaps))


def to_frame(cells: Float, sample: Sample) -> Float:
    """Interpolates values of cells to the picture's pixels, `[height, width]`."""
    picture = sample.residuals.pictures[sample.index]
    (wide, high), (width, height) = picture.content, picture.frame
    fine = F.interpolate(torch.from_numpy(cells)[None, None], scale_factor=STRIDE, mode="bilinear")
    whole = F.interpolate(fine[:, :, :high, :wide], size=(height, width), mode="bilinear")
    made: Float = whole[0, 0].numpy()
    return made
