"""Writes `vit.onnx` and `vit.toml` beside this file, a small DINOv2 with random weights, and `golden.safetensors`, what PyTorch
makes of random pictures of several sizes. `src/onnx/tests.rs` checks that the inspector computes the same.

python make.py     (needs `weakrest_export`; the exporter's environment has it)
"""

import pathlib

import timm
import torch
from safetensors.torch import save_file

from weakrest_export import backbone
from weakrest_export.graph import FeatureGrid
from weakrest_export.networks import License, Network
from weakrest_export.settings import BackboneSettings
from weakrest_export.taps import Tap, Tapped
from weakrest_export.transformers import Tokens, show_every_block

HERE = pathlib.Path(__file__).parent
SIZES = [(84, 84), (28, 98), (14, 14)]

torch.manual_seed(1)
size = {"img_size": 84, "embed_dim": 32, "depth": 3, "num_heads": 2, "mlp_ratio": 2}
network = timm.create_model(
    "vit_small_patch14_reg4_dinov2", num_classes=0, dynamic_img_size=True, **size
).eval()
show_every_block(network)
with torch.no_grad():
    for learned in (network.pos_embed, network.cls_token, network.reg_token):
        learned.normal_()
taps = (Tap(14, 32, 2), Tap(14, 32, 3))
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
tapped = Tapped(taps, Tokens(network, (2, 3)).eval())
loaded = Network("vit", "random weights (for tests)", License("Apache-2.0"), mean, std, tapped)
settings = BackboneSettings("vit", precision="float16")
backbone.write(backbone.export_loaded("vit", loaded, [{2: 0.5, 3: 1.0}], settings), HERE)
golden = {}
features = FeatureGrid(loaded, scales=[{2: 0.5, 3: 1.0}]).eval()
for weights in (*features.parameters(), *features.buffers()):
    if weights.ndim > 1:
        weights.data = weights.data.half().float()  # as the file has them
for high, wide in SIZES:
    picture = torch.randn(1, 3, high, wide)
    golden[f"picture.{high}x{wide}"] = picture
    with torch.inference_mode():
        golden[f"features.{high}x{wide}"] = features(picture).clone()
save_file(golden, HERE / "golden.safetensors")
