"""Comparing an engine with its reference: metrics, inputs, references."""
