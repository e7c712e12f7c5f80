"""The net in memory: layers, their checks, and fusions of layers."""
