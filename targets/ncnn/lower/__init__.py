"""Lowering: ONNX ops to ncnn layers, by function; `lowering` drives it, `ops_*` hold the functions."""
