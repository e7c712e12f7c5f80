"""Lowering ONNX nodes to ncnn layers.

lower_graph: the whole graph. net_builder: what a lowering appends layers with. registry: op -> lowering function.
ops_maps, ops_math, ops_matrix, ops_movement, ops_selection: the lowering functions; sorting serves ops_selection.
layout: the ncnn shape of each tensor. size_expressions: run-time sizes. attributes: readers of node attributes.
"""
