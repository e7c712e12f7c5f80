"""The model of a Triton package, run by Triton's Python backend: images in, masks out. Copied to VERSION/model.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # of the server

import segc


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle beside this file."""
        threads = json.loads(args["model_config"])["parameters"]["threads"]["string_value"]
        self.engine = segc.load(Path(__file__).with_name("bundle"), threads=int(threads))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; the error of one does not touch the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        images = triton.get_input_tensor_by_name(request, "image").as_numpy()
        try:
            made = [self.engine.segment(image) for image in images]
        except Exception as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        asked = request.requested_output_names()
        outputs = []
        if "mask" in asked:
            outputs.append(triton.Tensor("mask", np.stack([one.mask for one in made])))
        if "rle" in asked:
            from segc.serving.answers import run_lengths

            texts = [[json.dumps(run_lengths(one)).encode()] for one in made]
            outputs.append(triton.Tensor("rle", np.array(texts, np.object_)))
        return triton.InferenceResponse(outputs)
