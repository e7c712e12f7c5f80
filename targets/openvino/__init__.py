"""OpenVINO on the CPU, in float32 or bfloat16.

target: what the target is. ops: its capability table. emit: how its files are written. runtime: how they are loaded.
precisions: what it computes in.
"""
