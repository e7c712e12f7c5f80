from __future__ import annotations

import numpy as np
import pytest

from segc.passes.performance.resize_channels_last import ResizeChannelsLast
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of

WEIGHTS = "float[8,3,1,1] w, float[8] v, float[2,8,1,1] u, float[2,24,1,1] u3, float[1,8,1,1] c"
TOKENS = f"g (float[N,L,3] t, int64[4] s, int64[4] large, int64[2] both, {WEIGHTS})"
MAP = "a = Transpose <perm = [0, 2, 1]> (t)  m = Reshape (a, s)"
PLAIN = f"{TOKENS} => (float[N,2,C,D] y)"
LINEAR = 'mode = "linear", coordinate_transformation_mode = "half_pixel"'
HEAD = f"p = Conv (m, w, v)  r = Relu (p)  z = Resize <{LINEAR}> (r, , , large)  q = Add (z, c)"


def feeds(seed: int = 0, small: tuple[int, int] = (3, 5), large: tuple[int, int] = (7, 6)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "t": rng.standard_normal((2, small[0] * small[1], 3)).astype(np.float32),
        "s": np.array([2, 3, *small]),
        "large": np.array([2, 8, *large]),
        "both": np.array(large),
    }


def constants(text: str) -> str:
    """The text with its weights as constants."""
    rng = np.random.default_rng(1)
    made = ["float[N,3,h,w] m", *(f"float[N,8,C,D] {z}" for z in ("z", "z2", "z3"))]  # what exporters know of sizes
    for one in WEIGHTS.split(", "):
        sizes = [int(size) for size in one[one.index("[") + 1 : one.index("]")].split(",")]
        values = ", ".join(f"{value:.4f}" for value in rng.standard_normal(int(np.prod(sizes))))
        made.append(f"{one} = {{{values}}}")
    made.append("float[4] four = {1, 1, 2, 1.5}")
    head, _, body = text.partition("{")
    return f"{HEAD20} {head.replace(f', {WEIGHTS}', '')} <{', '.join(made)}> {{{body}"


def changed(text: str, changes: int = 1, **sizes: tuple[int, int]) -> list[str]:
    """The ops after the pass, which gives the numbers of before."""
    before, after = graph_of(constants(text)), graph_of(constants(text))
    assert apply(ResizeChannelsLast(), after).changes == changes
    for seed in range(2):
        given = feeds(seed, **sizes)
        want, got = evaluate.outputs(before, given), evaluate.outputs(after, given)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5, err_msg=name)
    assert apply(ResizeChannelsLast(), after).changes == 0
    return [node.op for node in after.nodes]


def test_a_map_is_made_of_tokens_convolved_and_resized_with_its_channels_last() -> None:
    check_pass(
        ResizeChannelsLast(),
        before=f"""{HEAD20} g (float[1,L,2] t, int64[4] s, int64[4] large) => (float[1,1,C,D] y)
            <float[1,2,h,w] m, float[1,2,C,D] z,
             float[2,2,1,1] w = {{1, 2, 3, 4}}, float[2] v = {{5, 6}}, float[1,2,1,1] u = {{7, 8}}>
            {{ {MAP}  p = Conv (m, w, v)  z = Resize <{LINEAR}> (p, , , large)  y = Conv (z, u) }}""",
        after=f"""{HEAD20} g (float[1,L,2] t, int64[4] s, int64[4] large) => (float[1,1,C,D] y)
            <int64[4] m_channels_last_sizes_order = {{0, 2, 3, 1}}, int64[4] z_sizes_order = {{0, 2, 3, 1}},
             float[2,2] p_weights = {{1, 3, 2, 4}}, float[2] v = {{5, 6}}, float[2,1] y_weights = {{7, 8}}>
            {{ m_channels_last_sizes = Gather <axis = 0> (s, m_channels_last_sizes_order)
               m_channels_last = Reshape (t, m_channels_last_sizes)
               p_product = MatMul (m_channels_last, p_weights)
               p_channels_last = Add (p_product, v)
               z_sizes = Gather <axis = 0> (large, z_sizes_order)
               z_channels_last = Resize <{LINEAR}> (p_channels_last, , , z_sizes)
               y_channels_last = MatMul (z_channels_last, y_weights)
               y = Transpose <perm = [0, 3, 1, 2]> (y_channels_last) }}""",
        same_outputs=False,  # random sizes do not fit; see the tests below
    )


@pytest.mark.parametrize("sizes", [{}, {"small": (1, 1)}, {"small": (4, 4), "large": (8, 8)}, {"large": (2, 9)}])
def test_numbers_stay_whatever_the_sizes(sizes: dict[str, tuple[int, int]]) -> None:
    ops = changed(f"{PLAIN} {{ {MAP}  {HEAD}  y = Conv (q, u) }}", **sizes)
    assert ops.count("Transpose") == 1 and "Conv" not in ops


AGAIN = f"z2 = Resize <{LINEAR}> (r, , , large)  z3 = Resize <{LINEAR}> (r, , , large)  n = Mul (z2, z3)"


def test_channels_are_concatenated_along_the_last_axis() -> None:
    text = f"""{TOKENS} => (float[N,2,C,D] y)
        {{ {MAP}  {HEAD}  k = Concat <axis = -3> (q, z)  l = Concat <axis = 1> (k, q)  y = Conv (l, u3) }}"""
    ops = changed(text)
    assert ops.count("Concat") == 2 and "Conv" not in ops


def test_a_map_that_others_read_too_is_turned_back_for_them() -> None:
    text = f"""{TOKENS} => (float[N,2,C,D] y, float[N,8,h,w] o)
        {{ {MAP}  {HEAD}  {AGAIN}  b = Add (q, n)  y = Conv (b, u)  o = Sin (r) }}"""
    assert changed(text).count("Transpose") == 2


def test_who_reads_the_shape_of_a_map_still_gets_it() -> None:
    text = f"""{TOKENS} => (float[N,2,C,D] y, int64[4] o, int64[2] e)
        {{ {MAP}  {HEAD}  y = Conv (q, u)  f = Shape (r)  o = Neg (f)  x = Shape <start = -2> (z)  e = Neg (x) }}"""
    assert changed(text).count("Shape") == 2


def test_a_shape_that_is_an_output_keeps_its_name() -> None:
    text = f"""{TOKENS} => (float[N,2,C,D] y, int64[4] o)
        {{ {MAP}  {HEAD}  {AGAIN}  b = Add (q, n)  y = Conv (b, u)  o = Shape (r) }}"""
    assert changed(text).count("Transpose") == 2


@pytest.mark.parametrize(
    "resize", [f"z = Resize <{LINEAR}, axes = [2, 3]> (r, , , both)", f"z = Resize <{LINEAR}> (r, , four)"]
)
def test_sizes_along_named_axes_and_scales_are_put_in_order(resize: str) -> None:
    changed(f"{PLAIN} {{ {MAP}  p = Conv (m, w, v)  r = Relu (p)  {resize}  y = Conv (z, u) }}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{TOKENS} => (float[N,8,C,D] q) {{ {MAP}  {HEAD} }}", None),  # what is resized last stays
        (f"{PLAIN} {{ {MAP}  {HEAD}  e = Add (q, z)  d = Sin (z)  i = Sigmoid (d)"
         "  j = ReduceMax <keepdims = 0> (i)  k = Conv (e, u)  y = Add (k, j) }", "turning 'z', 'k' back costs more"),
        (f"{PLAIN} {{ {MAP}  {HEAD}  y = Conv (q, u) }}".replace("linear", "nearest"), None),
        (f"{PLAIN} {{ {MAP}  {HEAD}  y = Conv (q, u) }}".replace("[0, 2, 1]", "[1, 0, 2]"), None),
        (f"{PLAIN} {{ m = Reshape (t, s)  {HEAD}  y = Conv (q, u) }}", None),
    ],
)  # fmt: skip
def test_what_would_not_pay_or_is_no_map_of_tokens_is_left_alone(text: str, reason: str | None) -> None:
    check_untouched(ResizeChannelsLast(), constants(text), reason)


def test_a_map_of_fixed_sizes_is_left_alone() -> None:
    check_untouched(
        ResizeChannelsLast(),
        f"""{HEAD20} g (float[1,35,3] t) => (float[1,1,14,12] y)
            <int64[4] s = {{1, 3, 7, 5}}, int64[4] large = {{1, 3, 14, 12}}, float[1,3,1,1] u = {{1, 2, 3}}>
            {{ {MAP}  z = Resize <{LINEAR}> (m, , , large)  y = Conv (z, u) }}""",
        None,
    )
