"""A model repository for NVIDIA Triton: the bundle behind Triton's Python backend."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from segc.bundle.manifest import NAME, Manifest
from segc.bundle.preprocessing import OwnStep
from segc.errors import Code, UsageError

MODEL = Path(__file__).with_name("triton_model.py")
VERSION = "1"
MOST = 8  # images of one size that Triton hands over together
_CONFIG = """\
# Images of 8 bits, BGR as OpenCV reads them, of any size; `mask` has the number of the class of each pixel, `rle` the
# classes as JSON with COCO's run-length codes.
name: "{name}"
backend: "python"
max_batch_size: {most}
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
output [
  {{ name: "mask" data_type: {kind} dims: [ -1, -1 ] }},
  {{ name: "rle" data_type: TYPE_STRING dims: [ 1 ] }}
]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
parameters {{ key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: {{ string_value: "yes" }} }}
parameters {{ key: "threads" value: {{ string_value: "0" }} }}
"""
_README = """\
# {name} for Triton

A model repository. The Python that Triton runs models with needs segc and the bundle's runtime:
`pip install 'segc[{target},serve]'`; releases of Triton whose Python backend is older than NumPy 2 also need 'numpy<2'.

    tritonserver --model-repository DIR

`image` is uint8 (N, H, W, 3), BGR; `mask` is (N, H, W); `rle`, if asked for, is JSON. More instances of the model, each
with memory of its own, and the runtime's threads are set in `{name}/config.pbtxt`.
"""


def check(manifest: Manifest) -> None:
    """Refuse models that do not take colour images of 8 bits, or need classes of their own. Raises UsageError."""
    how, channels = manifest.preprocessing, manifest.input.shape[1]
    raw = how.loader is not None and (how.loader.is_raw or how.loader.channels(0) != 3)
    if channels != 3 or raw:
        _refuse(f"its images are not of 8 bits and three channels (channels: {channels})", ())
    if own := [step.name for step in how.chain if isinstance(step, OwnStep)]:
        _refuse(f"its preprocessing runs Python classes of its own: {', '.join(own)}", ())


def fill(folder: Path, bundle: Path, manifest: Manifest) -> None:
    """Write the repository with the bundle as a model of its folder's name."""
    name = model_name(bundle)
    version = folder / name / VERSION
    for file in (NAME, *manifest.files):
        (version / "bundle" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / file, version / "bundle" / file)
    shutil.copyfile(MODEL, version / "model.py")
    wide = manifest.output.channels > 256
    config = _CONFIG.format(name=name, most=MOST, kind="TYPE_UINT16" if wide else "TYPE_UINT8")
    (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")
    (folder / "README.md").write_text(_README.format(name=name, target=manifest.target.name), encoding="utf-8")


def model_name(bundle: Path) -> str:
    """The name of a bundle's folder, in letters, digits, `.`, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", bundle.resolve().name) or "model"


def _refuse(because: str, so: str | tuple[str, ...]) -> None:
    raise UsageError("the bundle cannot become a model of Triton", code=Code.PACKAGE, because=because, so=so)
