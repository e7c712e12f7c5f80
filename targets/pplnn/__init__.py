"""PPLNN (OpenPPL's ppl.nn) on x86 and CUDA: ONNX of opset 11 in the region that was measured to be right."""
