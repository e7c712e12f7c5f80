"""Sets of ops that several passes treat alike."""

from __future__ import annotations

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm"})  # a weight and a bias that an affine map can be folded into
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
