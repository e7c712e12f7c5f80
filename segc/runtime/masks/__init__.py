"""Masks from small logits on the CPU: resize and argmax in one step."""
