"""Legality: which nodes a target refuses, and why. node_legality: of one node. report: of a graph, and the error."""
