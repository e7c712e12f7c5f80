"""A folder that runs `segc serve`: the bundle, what to install, a start script, a Dockerfile."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from segc.bundle.manifest import NAME, Manifest
from segc.bundle.preprocessing import OwnStep
from segc.errors import Code, UsageError
from segc.packaging.triton import model_name

START = "serve.sh"
_START = """\
#!/bin/sh
# Serves the bundle at http://$HOST:$PORT; further options of `segc serve` may follow.
set -eu
cd "$(dirname "$0")"
exec "${{PYTHON:-python3}}" -m segc serve "models/{name}" --host "${{HOST:-127.0.0.1}}" --port "${{PORT:-8000}}" "$@"
"""
_DOCKERFILE = """\
FROM python:3.12-slim
RUN useradd --create-home segc
WORKDIR /srv/segc
COPY requirements.txt wheels* ./
RUN pip install --no-cache-dir --find-links . -r requirements.txt
COPY models models
COPY serve.sh .
USER segc
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000
HEALTHCHECK CMD python -c "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\\"PORT\\"]}/health/live')"
CMD ["./serve.sh"]
"""
_README = """\
# {name} over HTTP

    pip install -r requirements.txt
    ./serve.sh
    curl --data-binary @photo.jpg http://127.0.0.1:8000/segment -o mask.png

`HOST` and `PORT` say where it listens, 127.0.0.1 and 8000 by default; options of `segc serve` such as `--queue 32` may
follow `./serve.sh`. There is neither authentication nor TLS: put it behind a proxy that has.

    docker build -t {image} . && docker run --rm -p 127.0.0.1:8000:8000 {image}

Where pip has no segc {version}, put its wheel into the folder `wheels` first, and for pip alone add `--find-links
wheels`.
"""


def check(manifest: Manifest) -> None:
    """Refuse bundles that need more than their own files. Raises UsageError."""
    if own := [step.name for step in manifest.preprocessing.chain if isinstance(step, OwnStep)]:
        raise UsageError(
            "the bundle cannot be served from a folder alone", code=Code.PACKAGE,
            because=f"its preprocessing runs Python classes of its own: {', '.join(own)}",
            so="serve it where they are: segc serve --python",
        )  # fmt: skip


def fill(folder: Path, bundle: Path, manifest: Manifest, requirements: Sequence[str]) -> None:
    """Write the bundle and what starts it. requirements: a line of pip's each."""
    name = model_name(bundle)
    for file in (NAME, *manifest.files):
        (folder / "models" / name / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / file, folder / "models" / name / file)
    texts = {
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        START: _START.format(name=name),
        "Dockerfile": _DOCKERFILE,
        "README.md": _README.format(name=name, image=name.lower().strip("._-") or "model", version=manifest.segc),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / START).chmod(0o755)
