"""Analyses of a graph: networkx views keyed by `id()`, liveness and peak memory, partitions, symbolic sizes."""
