"""Sets of ops that several passes treat alike."""

from __future__ import annotations

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm"})  # a weight and a bias that an affine map can be folded into
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

# Shape arithmetic: cheap, deterministic, and evaluated by ONNX's reference on small constants.
_COMPUTE = {"Abs", "Add", "And", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_COMPUTE |= {"Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"}
_COMPUTE |= {"Sqrt", "Sub", "Where"}
_ARRANGE = {"Cast", "Concat", "ConstantOfShape", "Expand", "Gather", "Identity", "Range", "Reshape", "Slice", "Split"}
_ARRANGE |= {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
SHAPE_ARITHMETIC = frozenset(_COMPUTE | _ARRANGE)
