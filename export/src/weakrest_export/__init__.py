"""Offline side of weakrest: turns pretrained networks into the ONNX files that the inspector runs."""

import os

# Before the first import of onnxruntime, which otherwise keeps a log of its use for its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
