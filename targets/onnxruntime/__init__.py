"""ONNX Runtime on the CPU, the embedded default.

target: what the target is. ops: its capability table. emit: how its file is written. runtime: how it is loaded.
"""
