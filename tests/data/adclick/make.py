"""Makes the tiny ADClick and what PyTorch computes with it: python make.py, with weakrest_export installed."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from weakrest_export import adclick_export
from weakrest_export.adclick import AdClick, Shape

HERE = Path(__file__).parent
CHANNELS = 176  # of the built-in backbone, so that packages take them


def main() -> None:
    torch.manual_seed(0)
    network = AdClick(Shape(CHANNELS, width=32, depth=2))
    for parameter in network.parameters():
        # As large as if it were trained, so that differences would show; prompts, too, do something.
        if parameter.requires_grad and parameter.ndim > 1:
            parameter.data += torch.randn_like(parameter) * 0.1
    network = network.eval()
    made = adclick_export.export(network, "0" * 64, setting="test", source="random")
    (HERE / "adclick.onnx").write_bytes(made.model)
    head = adclick_export.export_head(network, "0" * 64, setting="test", source="random")
    (HERE / "seg.onnx").write_bytes(head.model)
    tensors = {}
    for rows, cols in ((3, 9), (10, 8), (1, 1)):
        inputs = adclick_export.example(CHANNELS, 1, rows, cols)
        with torch.inference_mode():
            logits = network(*inputs[:3], inputs[3][:, 0, 0])
            alone = network(*inputs[:2], torch.zeros_like(inputs[2]), torch.zeros_like(inputs[3][:, 0, 0]))
        named = dict(zip(adclick_export.INPUTS, inputs, strict=True))
        named |= {"logits": logits[..., None], "alone": alone[..., None]}
        tensors |= {f"{name}.{rows}x{cols}": value.contiguous() for name, value in named.items()}
    save_file(tensors, HERE / "golden.safetensors")


if __name__ == "__main__":
    main()
