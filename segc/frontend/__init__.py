"""From a SOURCE to a traced ONNX model with everything the bundle must know about it."""
