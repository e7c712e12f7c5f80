"""The intermediate representation: ONNX GraphSurgeon graphs, the segc dialect, and analyses of them."""
