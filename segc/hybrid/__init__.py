"""Models of which a target runs a part: segments of a graph for the target and for ONNX Runtime, in turns."""

from segc.hybrid.build import nominal_shapes, session_of, split, told
from segc.hybrid.emission import emit, model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.plan import Plan, Segment, plan

__all__ = [
    "Partitioning",
    "Plan",
    "Segment",
    "emit",
    "model_of",
    "nominal_shapes",
    "plan",
    "session_of",
    "split",
    "told",
]
