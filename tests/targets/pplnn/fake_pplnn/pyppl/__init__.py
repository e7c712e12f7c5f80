"""A stand-in with the Python API of ppl.nn, for the control flow of the adapter. ONNX Runtime computes."""
