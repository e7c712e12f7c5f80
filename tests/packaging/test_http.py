"""`segc package --for http`: the folder serves the bundle with the masks of `segment`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import segc
from segc.errors import Code, UsageError
from segc.targets.protocol import Runtime
from tests.helpers.servers import address_of
from tests.helpers.tiny_bundles import bundle, photograph

ROOT = Path(__file__).parents[2]


def test_the_folder_serves_the_bundle(tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    tiny = bundle(tmp_path / "my model")
    made = segc.package(tiny, purpose="http", out=tmp_path / "server").path
    assert {path.name for path in made.iterdir()} == {
        "models", "requirements.txt", "serve.sh", "Dockerfile", "README.md", "segc-package.json",
    }  # fmt: skip
    lines = (made / "requirements.txt").read_text().splitlines()
    assert lines == [f"segc[serve,fast]=={segc.__version__}", "onnxruntime==1.32.0"]
    environment = {**os.environ, "PYTHON": sys.executable, "PORT": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([made / "serve.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        address = address_of(process)
        image = photograph(20, 30)
        content = cv2.imencode(".png", image)[1].tobytes()
        answer = httpx.post(f"{address}/models/my_model/segment", content=content)
        assert answer.content == segc.load(tiny).segment(image).png()
    finally:
        process.kill()
        process.communicate()


def test_the_commands_of_the_dockerfile_name_files_of_the_folder(tmp_path: Path) -> None:
    made = segc.package(bundle(tmp_path / "b"), purpose="http", out=tmp_path / "server").path
    copied = re.findall(r"^COPY (.*) \S+$", (made / "Dockerfile").read_text(), flags=re.MULTILINE)
    names = [name for line in copied for name in line.split() if not name.endswith("*")]
    assert names == ["requirements.txt", "models", "serve.sh"] and all((made / name).exists() for name in names)
    assert os.access(made / "serve.sh", os.X_OK)


def test_bundles_that_need_more_than_their_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [{"step": "own", "module": "mine", "name": "Mine", "settings": {}}]
    with pytest.raises(UsageError, match="cannot be served") as raised:
        segc.package(bundle(tmp_path / "own", preprocessing__steps=own), purpose="http", out=tmp_path / "a")
    assert raised.value.code == Code.PACKAGE
    from segc import targets

    monkeypatch.setattr(targets, "runtime", lambda _: Runtime(lambda *_: None))  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match="no package of pip") as raised:
        segc.package(bundle(tmp_path / "b"), purpose="http", out=tmp_path / "a")
    assert raised.value.code == Code.PACKAGE and not np.array(list((tmp_path).glob("a/*"))).size
