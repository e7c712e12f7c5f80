"""Two of a kind or of different kinds, bundles, ONNX files and sources, compared tensor by tensor."""
