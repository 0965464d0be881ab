"""How well a network separates defective blocks from good ones."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakrest_export.anchored import Anchored, log_lengths
from weakrest_export.blocks import NEGATIVE, POSITIVE
from weakrest_export.samples import Sample


def evaluate(head: Anchored, samples: Sequence[Sample]) -> float:
    """Average precision of a head over all positive and negative blocks of the samples, 0..1."""
    scores, truths = [], []
    for sample in samples:
        nearest = sample.residuals.read(sample.index)[:1]
        defective = probability(head, nearest, sample.residuals.scales).numpy()
        known = sample.labels >= NEGATIVE
        scores.append(defective[known])
        truths.append(sample.labels[known] == POSITIVE)
    return average_precision(np.concatenate(scores), np.concatenate(truths))


def probability(head: Anchored, residuals: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Probability of a defect, `[rows, cols]` on the CPU, for residuals `[1, rows, cols, channels]`."""
    residuals = residuals.float().to(next(head.parameters()).device)
    with torch.inference_mode():
        judged = head(residuals, log_lengths(residuals, scales))
    defective: Tensor = judged.blocks[0].softmax(-1)[..., 1].cpu()
    return defective


def average_precision(scores: npt.NDArray[np.float32], truths: npt.NDArray[np.bool_]) -> float:
    """Step-wise average precision, 0..1. Equal scores are one step. 0 if nothing is true."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truths[order])
    if not len(hits) or not hits[-1]:
        return 0.0
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[ends] / (ends + 1)))
