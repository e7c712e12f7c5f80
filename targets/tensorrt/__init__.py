"""NVIDIA TensorRT: engines built ahead of time, with TensorRT for RTX also on machines without a GPU."""
