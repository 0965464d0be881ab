"""Shared by the tests: one thread, because others may be using the machine, and backbones exported once."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from weakrest_export import backbone, graph, networks
from weakrest_export.settings import BackboneSettings

torch.set_num_threads(1)

LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
MODELS = Path(__file__).parents[2] / "models"

Exported = tuple[graph.FeatureGrid, bytes]


@cache
def exported(name: str, weights: str, taps: tuple[int, ...] = (4, 8, 16), grid: int = 8) -> Exported:
    """A network on its grid, in PyTorch and in ONNX."""
    features = graph.FeatureGrid(networks.load(name, taps, weights), grid).eval()
    return features, graph.onnx_bytes(features, "test")


@pytest.fixture(scope="session")
def lite1() -> backbone.Backbone:
    return backbone.export(BackboneSettings("efficientnet-lite1", scales=("4,8,16:0.5",)))


@pytest.fixture
def noise() -> Callable[..., torch.Tensor]:
    """Makes images `[N, 3, H, W]` of normal noise, the same in every run."""
    generator = torch.Generator().manual_seed(1)
    return lambda *shape: torch.randn(*shape, generator=generator)


SIZES = {"ConstantOfShape", "Expand", "NonZero", "Range", "Shape", "Size", "Where"}
"""Operators that compute sizes while a network runs. No GPU takes them."""


def optimized(model: bytes, **sizes: int) -> set[str]:
    """Operators of the graph that runs for inputs of fixed sizes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        for name, size in sizes.items():
            options.add_free_dimension_override_by_name(name, size)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return {node.op_type for node in onnx.load(path).graph.node}
