"""Offline side of weakrest: turns pretrained networks into the ONNX files that the inspector runs."""

__version__ = "0.1.0"
