"""Writes `swin.onnx` beside this file, a small head with random weights, and `golden.safetensors`, what PyTorch makes of random
residuals of several sizes: with them `src/onnx/tests.rs` checks that the inspector computes what training computed.

python make.py     (needs `weakrest_export`; the exporter's environment has it)
"""

import pathlib

import torch
from safetensors.torch import save_file

from weakrest_export import head_export
from weakrest_export.head import Head, Shape

HERE = pathlib.Path(__file__).parent
SIZES = [(8, 8), (32, 32), (13, 50), (1, 1), (9, 7)]

torch.manual_seed(1)
head = Head(Shape(channels=6, width=32, depth=2)).eval()
with torch.no_grad():
    for parameter in head.parameters():
        parameter.mul_(3)  # so that logits are not all about zero
(HERE / "swin.onnx").write_bytes(head_export.onnx_bytes(head, "swin"))
golden = {}
for rows, cols in SIZES:
    residuals = 2 * torch.randn(1, rows, cols, 6)
    golden[f"residuals.{rows}x{cols}"] = residuals
    with torch.inference_mode():
        golden[f"logits.{rows}x{cols}"] = head(residuals).clone()
save_file(golden, HERE / "golden.safetensors")
