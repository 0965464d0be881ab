"""Small residuals folders, as `weakrest residuals` would write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from weakrest_export.residuals import Residuals
from weakrest_export.samples import Sample

CHANNELS = 12
PACKAGE, BACKBONE = "a" * 64, "b" * 64


def write_shards(
    folder: Path,
    tensors: Sequence[torch.Tensor],
    images: Sequence[str] | None = None,
    package: str = PACKAGE,
    pictures: Sequence[torch.Tensor] | None = None,
    stride: int = 8,
    **other: Any,
) -> Path:
    """Writes f16 tensors `[3, rows, cols, channels]`, two to a shard, and an index; `other` goes there.

    What the backbone saw, `[3, stride · rows, stride · cols]`, is written with them if it is given.
    """
    folder.mkdir(parents=True)
    entries = []
    for start in range(0, len(tensors), 2):
        shard = f"residuals-{start // 2:05}.safetensors"
        named = {f"{at:06}": tensor for at, tensor in enumerate(tensors[start : start + 2])}
        seen = {f"{at:06}.picture": pictures[start + at] for at in range(len(named))} if pictures else {}
        save_file({**named, **seen}, folder / shard, {"package": package})
        for at, (name, tensor) in enumerate(named.items(), start):
            _, rows, cols, _ = tensor.shape
            entry = {"image": images[at] if images else f"{at}.png", "shard": shard, "tensor": name}
            entry |= {"grid": [rows, cols], "content": [cols * stride, rows * stride]}
            entry["frame"] = entry["content"]
            if pictures:
                entry["picture"] = f"{name}.picture"
            entries.append(entry)
    index = {"format": 2, "package": package, "backbone": BACKBONE, "scales": [tensors[0].shape[-1]]}
    index |= {"neighbors": 3, "stride": stride, "pictures": entries, **other}
    (folder / "index.json").write_text(json.dumps(index), "utf-8")
    return folder


def make_samples(
    folder: Path, grids: Sequence[tuple[int, int]] = ((10, 9),) * 12, **other: Any
) -> list[Sample]:
    """Every second picture is good; the others have a 3×3 defect that sticks out of the noise."""
    generator = torch.Generator().manual_seed(0)
    tensors, labels = [], []
    for at, (rows, cols) in enumerate(grids):
        residuals = torch.randn(3, rows, cols, CHANNELS, generator=generator)
        label = np.zeros((rows, cols), np.int8)
        if at % 2:
            row = int(torch.randint(rows - 2, (), generator=generator))
            col = int(torch.randint(cols - 2, (), generator=generator))
            residuals[:, row : row + 3, col : col + 3] *= 4
            label[row : row + 3, col : col + 3] = 1
        tensors.append(residuals.half())
        labels.append(label)
    residuals = Residuals(write_shards(folder, tensors, **other))
    return [
        Sample(residuals, at, label, "synthetic" if at % 2 else "good") for at, label in enumerate(labels)
    ]
