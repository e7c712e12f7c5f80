"""Trial runs of a fresh engine. inputs: what it runs on. winograd63: whether 6x6 tiles are exact enough.

files/fp16_weights.py runs trials too.
"""
