"""How every network is trained: rates, clipped gradients, the average of the weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from weakrest_export.settings import Training


class Optimizer:
    """AdamW for a network, and the moving average of its weights in a copy.

    Attributes:
        inner: PyTorch's optimizer; its state belongs to a checkpoint.
    """

    def __init__(self, network: nn.Module, average: nn.Module, schedule: Training) -> None:
        self.schedule = schedule
        self.inner = torch.optim.AdamW(_groups(network, schedule.decay), lr=schedule.rate)
        self._network, self._average = network, average

    def step(self, loss: Tensor, step: int) -> None:
        """Makes one step along the gradient of the loss."""
        for group in self.inner.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        self.inner.zero_grad()
        torch.autograd.backward(loss)
        trained = [p for group in self.inner.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, self.schedule.clip)
        self.inner.step()
        # Early weights are bad: the average forgets them sooner.
        decay = min(self.schedule.average, (1 + step) / (10 + step))
        pairs = zip(self._average.state_dict().values(), self._network.state_dict().values(), strict=True)
        with torch.no_grad():
            for mean, now in pairs:
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - decay)


def _groups(network: nn.Module, decay: float) -> Iterator[dict[str, Any]]:
    """The trained parameters, in two groups.

    Decay is for matrices only: it would pull scales, shifts and position biases to zero.
    """
    matrices = [m.weight for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    matrices = [matrix for matrix in matrices if matrix.requires_grad]
    chosen = {id(matrix) for matrix in matrices}
    rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    yield {"params": matrices, "weight_decay": decay}
    yield {"params": rest, "weight_decay": 0.0}
