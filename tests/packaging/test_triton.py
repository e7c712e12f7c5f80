"""`segc package --for triton`: a model repository, and where a server is at hand, its answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segc
from segc.errors import Code, SegcError
from tests.helpers.tiny_bundles import bundle, photograph

SERVER = os.environ.get("SEGC_TRITON", "")  # the folder `tritonserver` of Triton's release or of nvidia-pytriton
PYTHON = os.environ.get("SEGC_TRITON_PYTHON", "")  # site-packages with segc's runtime, as that server's Python needs


def repository(folder: Path, **changes: Any) -> Path:
    return segc.package(bundle(folder / "street 1", **changes), purpose="triton", out=folder / "models").path


def test_a_repository_holds_the_bundle_and_what_runs_it(tmp_path: Path) -> None:
    made = repository(tmp_path)
    listed = json.loads((made / "segc-package.json").read_text())
    model = "street_1"
    assert {f"{model}/config.pbtxt", f"{model}/1/model.py", f"{model}/1/bundle/segc.json"} <= {*listed["files"]}
    engine = segc.load(made / model / "1" / "bundle")
    assert engine.manifest == segc.load(tmp_path / "street 1").manifest
    config = (made / model / "config.pbtxt").read_text()
    assert f'name: "{model}"' in config and 'name: "mask" data_type: TYPE_UINT8' in config


def test_the_configuration_is_one_of_triton(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    config = text_format.Parse((repository(tmp_path) / "street_1" / "config.pbtxt").read_text(), ModelConfig())
    assert [*config.input[0].dims] == [-1, -1, 3] and config.max_batch_size == 8


def test_more_than_256_classes_need_sixteen_bits(tmp_path: Path) -> None:
    made = repository(
        tmp_path, output__channels=300, classes=[f"c{at}" for at in range(300)], palette=[[0, 0, 0]] * 300
    )
    assert 'name: "mask" data_type: TYPE_UINT16' in (made / "street_1" / "config.pbtxt").read_text()


OWN = [{"step": "own", "module": "my.code", "name": "Mine", "settings": {}}]
RAW = {"color": "unchanged", "decoder": "cv2", "float32": False}


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"preprocessing__steps": OWN}, "Python classes of its own: Mine"),
        ({"preprocessing__loader": RAW}, "not of 8 bits and three channels"),
    ],
)
def test_models_that_do_not_take_such_images_are_refused(tmp_path: Path, changes: dict[str, Any], because: str) -> None:
    with pytest.raises(SegcError) as error:
        repository(tmp_path, **changes)
    assert error.value.code == Code.PACKAGE and because in str(error.value)
    assert not (tmp_path / "models").exists()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def server(models: Path) -> Iterator[Any]:
    """Triton with these models, and a client."""
    from tritonclient.http import InferenceServerClient

    http, grpc, metrics = free_ports(3)
    words = ["--model-repository", models, "--backend-directory", Path(SERVER) / "backends", "--http-port", http]
    words += ["--grpc-port", grpc, "--metrics-port", metrics]
    process = subprocess.Popen([Path(SERVER) / "bin" / "tritonserver", *map(str, words)], stderr=subprocess.DEVNULL)
    try:
        client = InferenceServerClient(f"127.0.0.1:{http}")
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.is_model_ready("street_1"):
                    break
            except OSError:
                time.sleep(1)
        yield client
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
@pytest.mark.skipif(not SERVER or not PYTHON, reason="SEGC_TRITON and SEGC_TRITON_PYTHON name no server")
def test_a_server_gives_the_masks_of_segment(tmp_path: Path) -> None:
    tritonclient = pytest.importorskip("tritonclient.http")
    made = repository(tmp_path)
    model = made / "street_1" / "1" / "model.py"
    paths = [str(Path(segc.__file__).parents[1]), PYTHON]  # this Python has them; an installed segc needs no such line
    model.write_text(
        model.read_text().replace("import json\n", f"import sys\nsys.path[:0] = {paths!r}\nimport json\n", 1)
    )
    images = np.stack([photograph(30, 50), photograph(30, 50, seed=1)])
    with server(made) as client:
        given = tritonclient.InferInput("image", images.shape, "UINT8")
        given.set_data_from_numpy(images)
        outputs = [tritonclient.InferRequestedOutput(name) for name in ("mask", "rle")]
        answer = client.infer("street_1", [given], outputs=outputs)
    engine = segc.load(tmp_path / "street 1")
    want = np.stack([engine.segment(image).mask for image in images])
    np.testing.assert_array_equal(answer.as_numpy("mask"), want)
    found = json.loads(answer.as_numpy("rle")[1, 0])
    assert sum(each["pixels"] for each in found["classes"]) == images[1, :, :, 0].size
