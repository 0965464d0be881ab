"""Weights of a network from a file that the user has: `.safetensors`, or a state dictionary of PyTorch."""

import hashlib
import sys
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from weakrest_export.errors import ExportError

SAFETENSORS = ".safetensors"
ENDINGS = (SAFETENSORS, ".pth", ".pt", ".bin")
"""Of files of weights."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep a state dictionary."""

Weights = Mapping[str, Tensor]


def is_file(weights: str) -> bool:
    """Whether `--weights` names a file, rather than a set of weights."""
    return Path(weights).suffix.lower() in ENDINGS


def describe(path: Path) -> str:
    """The file's name and the start of its hash, for a manifest."""
    return f"{path.name} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def fitting(path: Path, name: str, network: nn.Module, classifier: Collection[str]) -> dict[str, Tensor]:
    """A file's weights under the network's names: all that the network has, and nothing else.

    Networks of timm that can read other projects' files convert them.

    Args:
        path: of the file.
        name: of the network, for messages.
        network: timm's without a classifier, or torchvision's.
        classifier: names of the layers that classify. They are left out, whatever their shape.

    Raises:
        ExportError: if the file cannot be read, holds anything but weights, or is of another network.
    """
    stored = read(path)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            stored = convert(dict(stored), network)
        except Exception as error:
            # timm's converters expect the files that they were written for, and raise anything else.
            raise _unfit(path, name, f"timm cannot convert it ({type(error).__name__}: {error})") from error

    def of_the_body(key: str) -> bool:
        return not any(key == layer or key.startswith(f"{layer}.") for layer in classifier)

    wanted = {key: value for key, value in network.state_dict().items() if of_the_body(key)}
    given = {key: value for key, value in stored.items() if of_the_body(key)}
    # Older programs did not write this count, which only training reads.
    lacking = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    if lacking:
        raise _unfit(path, name, f"it has no {_first(lacking)}")
    foreign = [key for key in given if key not in wanted]
    if foreign:
        raise _unfit(path, name, f"the network has no {_first(foreign)}")
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            shapes = f"{list(value.shape)} instead of {list(wanted[key].shape)}"
            raise _unfit(path, name, f"{key!r} has the shape {shapes}")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ExportError(f"weights {path}: {key!r} holds a value that is no finite number")
    return given


def read(path: Path) -> Weights:
    """The tensors of a file, by name. No code in the file is run.

    Raises:
        ExportError: if the file cannot be read or holds anything but tensors with names.
    """
    try:
        stored: Any
        if path.suffix.lower() == SAFETENSORS:
            stored = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                # It warns of files that it then refuses.
                warnings.simplefilter("ignore")
                stored = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ExportError(f"cannot read weights {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise _no_weights(path, str(error)) from error
    except Exception as error:
        # PyTorch raises anything on what it cannot read.
        why = "it is no state dictionary of PyTorch, or is damaged, or would run code when it is loaded"
        raise _no_weights(path, why) from error
    for wrapper in WRAPPERS:
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not stored:
        raise _no_weights(path, "it holds no tensors with names")
    for key, value in stored.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise _no_weights(path, f"{key!r} is no tensor")
    return {key.removeprefix("module."): value for key, value in stored.items()}


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]!r}{more}"


def _unfit(path: Path, name: str, why: str) -> ExportError:
    return ExportError(
        f"weights {path} do not fit {name}: {why}; name the network that the file was made for, or take the "
        "file that timm or torchvision offers for this one"
    )


def _no_weights(path: Path, why: str) -> ExportError:
    return ExportError(
        f"weights {path}: {why}; save a network's state_dict() with safetensors.torch.save_file or torch.save"
    )
