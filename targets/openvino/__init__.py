"""OpenVINO on the CPU, in float32.

target: what the target is. ops: its capability table. emit: how its files are written. runtime: how they are loaded.
"""
