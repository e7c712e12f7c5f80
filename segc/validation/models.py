"""What is evaluated: bundles, and the PyTorch model beside them. Workers on other machines load them by name."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segc.bundle.manifest import Manifest
from segc.bundle.store import read_manifest
from segc.errors import Code, UsageError
from segc.runtime.engine import Engine, load

PYTORCH = "PyTorch"


@dataclass(frozen=True)
class Models:
    """Bundles and, where `source` is given, its model in PyTorch. threads, direct, python: as for `segc run`.

    skipped: steps of the source's test pipeline that are left out.
    """

    bundles: tuple[str, ...]
    source: str | None = None
    checkpoint: str | None = None
    allow_mismatch: bool = False
    skipped: tuple[str, ...] = ()
    threads: int = 0
    direct: bool = False
    python: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return (*self.bundles, PYTORCH) if self.source is not None else self.bundles

    def digest(self) -> list[str]:
        """Changes whenever other models are evaluated under the same names."""
        files = [Path(bundle) / "segc.json" for bundle in self.bundles]
        named = [Path(name) for name in (self.source, self.checkpoint) if name is not None]
        texts = [path.read_bytes() if path.is_file() else str(path).encode() for path in (*files, *named)]
        return [*(hashlib.sha256(text).hexdigest() for text in texts), f"direct={self.direct}", *self.skipped]


@dataclass(frozen=True)
class Loaded:
    """A model that is ready."""

    name: str
    engine: Engine


def engine_words(manifest: Manifest) -> str:
    """The runtime, its version and the precision."""
    made = manifest.target
    return " ".join(filter(None, (made.name, made.runtime, manifest.precision, manifest.hybrid)))


def shared_manifest(bundles: Sequence[str | Path]) -> Manifest:
    """The manifest of the first bundle. Raises UsageError where others have another number of classes."""
    first, *others = (read_manifest(bundle) for bundle in bundles)
    count = classes_of(first)
    for name, other in zip(bundles[1:], others, strict=True):
        if classes_of(other) != count:
            raise UsageError(
                f"{name} has {classes_of(other)} classes and {bundles[0]} has {count}", code=Code.CLASSES_DIFFER,
                because="the labels can fit one of them only", so="evaluate them one by one",
            )  # fmt: skip
    return first


def classes_of(manifest: Manifest) -> int:
    """The number of classes in masks."""
    return max(manifest.output.channels, 2)


_lock = threading.Lock()


def load_all(models: Models) -> tuple[Loaded, ...]:
    """Load every model; raises what `segc.load` and opening a source raise. Once in a process for the same models."""
    with _lock:
        return _load_all(models)


@cache
def _load_all(models: Models) -> tuple[Loaded, ...]:
    loaded = [Loaded(name, load(name, threads=models.threads, python=models.python)) for name in models.bundles]
    if models.source is not None:
        from segc.validation.pytorch import engine

        loaded.append(Loaded(PYTORCH, engine(models, loaded[0].engine.manifest)))
    return tuple(loaded)
