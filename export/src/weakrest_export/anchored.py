"""A head as it is trained: it corrects the length of residuals, which stays the anchor of every score."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export.head import Head

_LEAST = 1e-2
"""Added to lengths before their logarithm. Typical lengths are about 1."""

SPAN = 16
"""Side of the window whose mean decides on a picture, in pixels of the scaled picture."""


@dataclass(frozen=True)
class Judged:
    """What a head says of a batch.

    Attributes:
        blocks: two logits per block, `[N, rows, cols, 2]`; index 1 stands for defective.
        pictures: one logit per picture, `[N]`; above 0 for a defective one.
    """

    blocks: Tensor
    pictures: Tensor


def log_lengths(residuals: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Logarithm of the residuals' length per block, `[..., rows, cols]`: the mean over the scales.

    Args:
        residuals: `[..., rows, cols, channels]`, scaled.
        scales: see `residuals.Residuals`.
    """
    parts: Sequence[Tensor] = torch.split(residuals.float(), list(scales), -1)
    logarithms = [(part.square().mean(-1).sqrt() + _LEAST).log() for part in parts]
    return torch.stack(logarithms).mean(0)


class Anchored(nn.Module):
    """A head, and how its corrections of lengths become probabilities.

    The logarithm of a block's score is z = log(length) + 2 tanh(d / 2), where d is the difference of the
    head's two logits. In a package, the score is the geometric mean of this and the length, see
    `manifest.BlockHead.output`. The sigmoid of `scale` z + `shift` is the probability that the block is
    defective. A picture's score is the highest mean of exp(z) over `SPAN` pixels.
    """

    def __init__(self, head: Head, stride: int) -> None:
        super().__init__()
        self.head = head
        self.window = max(1, SPAN // stride)
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.shift = nn.Parameter(torch.tensor(-3.0))
        self.picture_shift = nn.Parameter(torch.tensor(-3.0))

    def forward(self, residuals: Tensor, lengths: Tensor, present: Tensor | None = None) -> Judged:
        """Judges a batch.

        Args:
            residuals: see `Head.forward`.
            lengths: `[N, rows, cols]`, see `log_lengths`.
            present: see `Head.forward`.
        """
        good, defective = self.head(residuals, present).float().unbind(-1)
        scores = lengths + 2 * ((defective - good) / 2).tanh()
        logits = self.scale * scores + self.shift
        values = scores.exp() if present is None else scores.exp() * present
        rows, cols = values.shape[1:]
        window = (min(self.window, rows), min(self.window, cols))
        highest = F.avg_pool2d(values[:, None], window, 1).amax((1, 2, 3))
        pictures = self.scale * (highest + 1e-4).log() + self.picture_shift
        return Judged(torch.stack((torch.zeros_like(logits), logits), -1), pictures)
