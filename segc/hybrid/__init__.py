"""Graphs of which a target runs a part: segments for the target and for ONNX Runtime, in turns."""
