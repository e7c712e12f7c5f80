"""ncnn on the CPU: segc's own emitter of `.param` and `.bin`, in layers that every ncnn build has.

target: what the target is. ops: its capability table. emit: how its files are written. runtime: how they are loaded.
lower: ONNX nodes to layers. net: the layers in memory, their checks and fusions. files: the files on disk. trial: trial
runs of a fresh engine.
"""
