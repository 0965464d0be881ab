"""Draws batches of pictures: turned, cropped and padded to one size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakrest_export.anchored import log_lengths
from weakrest_export.blocks import IGNORED, POSITIVE, UNKNOWN
from weakrest_export.samples import KINDS, Kind, Sample
from weakrest_export.settings import HeadSettings

STRANGEST = 20
"""Blocks of a picture that a crop without defects is likely to show."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one step; all but the first are `[N, rows, cols]`.

    Attributes:
        residuals: f16 `[N, neighbors, rows, cols, channels]`.
        lengths: f32, of the nearest neighbor, see `anchored.log_lengths`.
        labels: int8, block labels.
        surely: bool, see `resmixmatch.surely_defective`.
        weights: f32, see `resmixmatch.balanced`.
        present: f32, 1 for a block, 0 for padding.
    """

    residuals: Tensor
    lengths: Tensor
    labels: Tensor
    surely: Tensor
    weights: Tensor
    present: Tensor


class Drawer:
    """Draws pictures by kind, then by package.

    Attributes:
        by_kind: see `samples.by_kind`.
        surely: surely defective blocks by `id` of the sample, see `resmixmatch.surely_defective`.
        weights: of blocks in the loss by `id` of the sample, see `resmixmatch.balanced`.
        settings: see `HeadSettings`.
        scales: of the residuals.
    """

    def __init__(
        self,
        by_kind: Mapping[Kind, Sequence[Sequence[Sample]]],
        surely: Mapping[int, npt.NDArray[np.bool_]],
        weights: Mapping[int, npt.NDArray[np.float32]],
        settings: HeadSettings,
        scales: tuple[int, ...],
    ) -> None:
        self.scales = scales
        self.by_kind, self.surely, self.weights, self.settings = by_kind, surely, weights, settings

    def draw(self, generator: torch.Generator, device: torch.device) -> Batch:
        """One batch, on the device."""
        pieces = [self._piece(generator) for _ in range(self.settings.batch)]
        count = len(pieces)
        rows = max(piece[1].shape[0] for piece in pieces)
        cols = max(piece[1].shape[1] for piece in pieces)
        neighbors = min(piece[0].shape[0] for piece in pieces)
        channels = pieces[0][0].shape[-1]
        residuals = torch.zeros(count, neighbors, rows, cols, channels, dtype=torch.float16)
        labels = torch.full((count, rows, cols), IGNORED, dtype=torch.int8)
        surely = torch.zeros(count, rows, cols, dtype=torch.bool)
        weights = torch.ones(count, rows, cols)
        present = torch.zeros(count, rows, cols)
        for at, (piece, label, sure, weight) in enumerate(pieces):
            height, width = label.shape
            residuals[at, :, :height, :width] = piece[:neighbors]
            labels[at, :height, :width] = label
            surely[at, :height, :width] = sure
            weights[at, :height, :width] = weight
            present[at, :height, :width] = 1
        lengths = log_lengths(residuals[:, 0], self.scales)
        parts = (residuals, lengths, labels, surely, weights, present)
        return Batch(*(part.to(device) for part in parts))

    def _piece(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Residuals `[neighbors, rows, cols, channels]`, labels, sure blocks and weights of a random crop."""

        def below(bound: int) -> int:
            return int(torch.randint(bound, (), generator=generator))

        shares = torch.tensor(
            [
                float(share) if self.by_kind[kind] else 0.0
                for kind, share in zip(KINDS, self.settings.composition, strict=True)
            ]
        )
        kind = KINDS[int(torch.multinomial(shares, 1, generator=generator))]
        # Every package counts the same, for any number of pictures.
        packages = self.by_kind[kind]
        group = packages[below(len(packages))]
        sample = group[below(len(group))]

        residuals = sample.residuals.read(sample.index)
        known, surely, weights = sample.labels, self.surely[id(sample)], self.weights[id(sample)]
        if sample.is_only_tagged:
            # Guesses for a whole picture are mostly wrong about faint parts of a defect: worse than none.
            known = np.where(surely, POSITIVE, IGNORED).astype(np.int8)
        blocks = [torch.from_numpy(of) for of in (known, surely, weights)]
        # Residuals do not depend on orientation.
        if below(2):
            residuals, blocks = residuals.transpose(1, 2), [of.T for of in blocks]
        for axis in (0, 1):
            if below(2):
                residuals, blocks = residuals.flip(axis + 1), [of.flip(axis) for of in blocks]
        suspicion = residuals[0].float().square().mean(-1)
        rows, cols = crop(blocks[0], suspicion, self.settings.crop, generator)
        labels, sure, weight = (of[rows, cols] for of in blocks)
        return residuals[:, rows, cols], labels, sure, weight


def crop(labels: Tensor, suspicion: Tensor, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Draws a crop of at most `side` rows and columns.

    Three of four crops have a positive or unknown block, if there is one. Of the others, half have one of the
    `STRANGEST` blocks: these decide the score of a good picture.

    Args:
        labels: `[rows, cols]`, block labels.
        suspicion: `[rows, cols]`, larger for stranger blocks.
        side: in blocks.
        generator: of random numbers.
    """
    if max(labels.shape) <= side:
        return slice(None), slice(None)

    def below(bound: int) -> int:
        return int(torch.randint(bound, (), generator=generator))

    center = None
    defective = ((labels == POSITIVE) | (labels == UNKNOWN)).nonzero()
    if len(defective) and below(4):
        center = defective[below(len(defective))].tolist()
    elif below(2):
        strangest = suspicion.flatten().topk(min(STRANGEST, suspicion.numel())).indices
        center = list(divmod(int(strangest[below(len(strangest))]), labels.shape[1]))
    spans = []
    for axis, length in enumerate(labels.shape):
        last = max(0, length - side)
        start = below(last + 1) if center is None else center[axis] - below(min(side, length))
        start = min(max(start, 0), last)
        spans.append(slice(start, start + side))
    rows, cols = spans
    return rows, cols
