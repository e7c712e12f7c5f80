"""Partitioning: a graph that a target runs in part becomes segments for the target and for ONNX Runtime.

split: what a compile calls. plan: which node runs where. options: when a segment is worth it. costs: work and bytes.
cut_tensors: inputs and outputs of sets of nodes. single_io_runs: segments for engines with one input and one output.
emit: segments on disk.
"""
