"""NVIDIA TensorRT: engines built ahead of time, by TensorRT for RTX also on machines without a GPU.

target: what the target is. ops: its capability tables. emit: an engine, or what a deferred build needs. runtime: loads
an engine. flavor: the two TensorRTs. engine_build: the build, in a child process. cuda: device memory and streams.
"""
