"""Masks from small logits on the CPU: resize and argmax in one step.

dispatch: the functions to call; they choose the kernel. cell_kernel: the compiled kernel, cell by cell. dense_kernel:
all classes of a block of rows. jit: how kernels are compiled. sigmoid_threshold: thresholds on logits. worker_threads:
the threads that share the work.
"""
