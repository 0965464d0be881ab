"""Where a training is computed, and in what precision."""

import torch


def device_of(name: str) -> torch.device:
    """The device of a name; `auto`: a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16. Without them it is many times slower."""
    if device.type == "cpu":
        # Older versions cannot tell.
        tell = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return tell is not None and bool(tell())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
