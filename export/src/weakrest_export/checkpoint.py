"""Saves a head's training, to continue it later with the same result."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from weakrest_export.anchored import Anchored
from weakrest_export.errors import Exit, ExportError
from weakrest_export.samples import Sample
from weakrest_export.settings import HeadSettings

FILE = "checkpoint.safetensors"

_FORMAT = 2

Tensors = dict[str, Tensor]


@dataclass
class Progress:
    """How far a training is; JSON can hold it.

    Attributes:
        step: steps that are done.
        best_step: step of the best weights so far.
        best_precision: their average precision on the pictures for validation.
        seconds: spent on steps.
        log: entries so far.
    """

    step: int = 0
    best_step: int = 0
    best_precision: float | None = None
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)


def fingerprint(samples: Sequence[Sample], settings: HeadSettings) -> dict[str, Any]:
    """What must be the same for a training to continue, as JSON has it."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.residuals.package} {sample.image} {sample.kind}\n".encode())
        digest.update(sample.labels.tobytes())
    chosen = json.loads(json.dumps(asdict(settings)))
    # Where it is computed does not matter.
    del chosen["device"]
    packages = sorted({sample.residuals.package for sample in samples})
    return {"packages": packages, "samples": digest.hexdigest(), **chosen}


def copy(head: Anchored) -> Tensors:
    """A head's weights, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in head.state_dict().items()}


def save(
    path: Path,
    progress: Progress,
    networks: dict[str, Tensors],
    optimizer: torch.optim.Optimizer,
    training: dict[str, Any],
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: of the file.
        progress: see `Progress`.
        networks: weights, by the name of the network.
        optimizer: its moments are kept.
        training: see `fingerprint`.

    Raises:
        ExportError: if it cannot be written.
    """
    tensors = {f"{of}.{name}": tensor for of, part in networks.items() for name, tensor in part.items()}
    for at, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{at}.{name}": value.cpu() for name, value in moments.items()}
    state = {"format": _FORMAT, "training": training, **asdict(progress)}
    temporary = path.with_name(f".{path.name}")
    try:
        save_file(tensors, temporary, {"state": json.dumps(state)})
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ExportError(f"{path}: cannot be written: {error}", Exit.FAULT) from error


def load(
    path: Path, networks: Sequence[str], optimizer: torch.optim.Optimizer, training: dict[str, Any]
) -> tuple[Progress, dict[str, Tensors]]:
    """Reads a checkpoint, the moments into the optimizer.

    Args:
        path: of the file.
        networks: names, see `save`.
        optimizer: of the same networks.
        training: see `fingerprint`.

    Returns:
        The progress, and the weights by the name of the network.

    Raises:
        ExportError: if the file is damaged, or the checkpoint is of another training.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise ExportError(f"{path}: damaged ({error}): delete it, or train without --resume") from error
    if state.pop("format", None) != _FORMAT:
        raise ExportError(f"{path}: a checkpoint of another release: train without --resume")
    before = state.pop("training")
    for key, value in training.items():
        if before.get(key) != value:
            raise ExportError(
                f"{path}: of a training with another {key} ({before.get(key)!r}, now {value!r}): "
                "train without --resume, or with the same settings"
            )

    def part(prefix: str) -> Tensors:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    moments: dict[int, Tensors] = {}
    for name, tensor in part("optimizer.").items():
        at, _, key = name.partition(".")
        moments.setdefault(int(at), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return Progress(**state), {name: part(f"{name}.") for name in networks}
