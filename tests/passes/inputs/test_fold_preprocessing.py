from __future__ import annotations

import numpy as np
import pytest

from segc.bundle.preprocessing import Pad, Preprocessing
from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.support import evaluate
from segc.runtime.preprocessing import preprocess
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of

NET = f"{HEAD20} g (float[1,3,6,7] x) => (float[1,3,6,7] y) {{ y = Abs (x) }}"
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.mark.parametrize("rgb", [True, False])
@pytest.mark.parametrize("mean", [MEAN, (0.0, 0.0, 0.0)])
def test_numbers_are_those_of_the_preprocessing_to_the_last_bit(rgb: bool, mean: tuple[float, ...]) -> None:
    graph = check_pass(FoldPreprocessing(mean, STD, rgb), NET, None, same_outputs=False)
    assert graph.inputs[0].name == "x" and list(graph.inputs[0].shape) == [1, 6, 7, 3]
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    how = Preprocessing(channel_order="RGB" if rgb else "BGR", mean=mean, std=STD, resize=None, pad=Pad())
    want, _ = preprocess(image, how)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": image[None]})["y"], np.abs(want))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NET.replace("1,3,6,7", "1,4,6,7"), "it must be"),
        (NET.replace("float[", "float16["), "it must be"),
        (f"{HEAD20} g (float[1,3,6,7] x, float[1] z) => (float[1,3,6,7] y) {{ y = Add (x, z) }}", "2 inputs"),
    ],
)
def test_other_inputs_are_left_alone(text: str, reason: str) -> None:
    check_untouched(FoldPreprocessing(), text, reason)


def test_an_input_that_is_an_output_too_is_left_alone() -> None:
    graph = graph_of(NET)
    graph.outputs.append(graph.inputs[0])
    assert "also an output" in FoldPreprocessing().run(graph).skips[0].reason
