"""Analyses of a graph: networkx views keyed by `id()`, depth, liveness and peak memory, partitions, symbolic sizes."""
