"""`KeptTraces`: a compile asks here for what opening, tracing and running its source gives; an earlier run may know."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Hashable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.bundle.canonical_json import canonical, sha256_of
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request
from segc.frontend.model import OnFiles, OwnMask, Source
from segc.frontend.remembered import FoundBefore, RememberedModule, kind_of
from segc.frontend.source import is_onnx
from segc.traces import dependencies, folder
from segc.traces import entry as entries
from segc.traces.entry import MODEL, Entry
from segc.traces.watch import Watch

if TYPE_CHECKING:
    from segc.bundle.manifest import Manifest
    from segc.compilation.measured_passes import Errors
    from segc.frontend.traced import Traced

_log = logging.getLogger(__name__)
_UNSEEN = ("hf:",)  # sources whose weights native code reads


def opened(request: Request, opset: int, watch: Watch | None, inner: CompileCache) -> KeptTraces | None:
    """The kept traces for a request, or None where nothing is kept of it."""
    place = folder.place()
    text = str(request.source)
    if watch is None or place is None or is_onnx(text) or text.startswith(_UNSEEN) or request.freeze_random is not None:
        return None
    if why := folder.usable(place):
        _log.warning("traces are not kept in %s: %s", place, why)
        return None
    return KeptTraces(request, opset, place, watch, inner)


def key_of(request: Request, opset: int) -> str:
    """What of a request decides how its source is opened and traced."""
    files = [None if path is None else os.path.abspath(path) for path in (request.checkpoint,)]
    source = os.path.abspath(request.source) if Path(request.source).exists() else str(request.source)
    told = [
        source, files, request.allow_mismatch, request.mode, request.channels, list(request.skip_transforms),
        repr(request.given), request.shape, request.trace_shape, request.dynamic, request.output == "mask", opset,
        entries.FORMAT,
    ]  # fmt: skip
    return sha256_of(canonical(told))


class KeptTraces(CompileCache):
    """One compile's view of the folder. What is not there is asked of `inner`, and kept by `commit`."""

    def __init__(self, request: Request, opset: int, place: Path, watch: Watch, inner: CompileCache) -> None:
        self._request, self._place, self._watch, self._inner = request, place, watch, inner
        self._path = place / key_of(request, opset)
        self._open: Callable[[], Source] | None = None
        self._made: dict[str, Any] = {"errors": {}, "arrays": {}, "limits": None, "found": None}
        self._staging: Path | None = None
        self._entry = self._valid()

    @property
    def hit(self) -> bool:
        """Whether an earlier run knows this source."""
        return self._entry is not None

    def _valid(self) -> Entry | None:
        found = entries.read(self._path)
        if found is None:
            return None
        if (changed := dependencies.difference(found.dependencies, self._watch)) is not None:
            _log.info("the kept trace is not used: changed: %s", changed)
            return None
        folder.touch(self._path)
        return found

    def _staged(self) -> Path:
        if self._staging is None:
            self._staging = folder.staged(self._place)
        return self._staging

    def source(self, key: Hashable, make: Callable[[], Source]) -> Source:
        """See CompileCache; a hit opens nothing."""

        def watched() -> Source:
            with self._watch.window():
                return make()

        self._open = partial(self._inner.source, key, watched)
        if (kept := self._entry) is not None:
            found = None if kept.found is None else FoundBefore(**asdict(kept.found))
            own = None if kept.shrinks is None else _OwnWay(self, None, kept.shrinks)
            return Source(kept.info, self._remembered(kept.module, found), None, kept.notes, own)  # type: ignore[arg-type]
        source = self._open()
        self._made |= {
            "info": source.info, "notes": tuple(source.notes), "module": kind_of(source.module),
            "shrinks": None if source.on_files is None else bool(source.on_files.shrinks),
        }  # fmt: skip
        return source if source.on_files is None else replace(source, on_files=_OwnWay(self, source.on_files))

    def really(self) -> Source:
        """The source itself."""
        assert self._open is not None
        return self._open()

    def _remembered(self, kind: str, found: FoundBefore | None) -> RememberedModule:
        def real() -> Any:
            source = self.really()
            if kind_of(source.module) == kind:
                return source.module
            from segc.frontend.logits_model import grown

            return grown(source).module

        def run(x: np.ndarray) -> np.ndarray:
            known = self.recalled(_reference_key(kind, x))
            if known is not None:
                return np.asarray(known)
            from segc.parity.reference import reference_of

            return reference_of(replace(self.really(), module=real()))(x)

        return RememberedModule(kind, found, run, real)

    def grown(self, source: Source, make: Callable[[], Source]) -> Source:
        """See CompileCache."""
        if isinstance(module := source.module, RememberedModule):
            return replace(source, module=self._remembered("GrownLogits", module.found))
        return make()

    def traced(self, key: Hashable, make: Callable[[], Traced]) -> Traced:
        """See CompileCache."""
        if (kept := self._entry) is not None:
            content = entries.checked_bytes(self._path, MODEL, kept.model)
            if content is not None:
                return _traced(content, kept)
        found = self._inner.traced(key, partial(self._watched, make))
        content = found.model.SerializeToString()
        (self._staged() / MODEL).write_bytes(content)
        self._made |= {"model": sha256_of(content), "rewrites": found.rewrites, "trace_notes": found.notes}
        return found

    def described(self, module: Any) -> None:
        """Keep what the output of the module that was traced turned out to be."""
        found = getattr(module, "found", None)
        if found is not None and self._entry is None:
            self._made["found"] = entries.Found(
                threshold=found.threshold, shifted=found.shifted, notes=tuple(found.notes)
            )

    def _watched(self, make: Callable[[], Any]) -> Any:
        with self._watch.window():
            return make()

    def forget_traces(self) -> None:
        """See CompileCache."""
        self._inner.forget_traces()

    def limits(self, make: Callable[[], tuple[int, tuple[int, int]]]) -> tuple[int, tuple[int, int]]:
        """See CompileCache."""
        if self._entry is not None and self._entry.limits is not None:
            divisor, *minimum = self._entry.limits
            return divisor, (minimum[0], minimum[1])
        divisor, least = self._inner.limits(partial(self._watched, make))
        self._made["limits"] = (divisor, *least)
        return divisor, least

    def reference(self, source: Source, run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """See CompileCache."""
        if isinstance(source.module, RememberedModule):
            return source.module.run
        asked, kind = self._inner.reference(source, run), kind_of(source.module)

        def kept(x: np.ndarray) -> np.ndarray:
            output: np.ndarray = self._watched(lambda: asked(x))
            self.keep(_reference_key(kind, x), output)
            return output

        return kept

    def errors(self, key: Hashable, make: Callable[[], Errors | None]) -> Errors | None:
        """See CompileCache."""
        name = repr(key)
        if self._entry is not None and name in self._entry.errors:
            from segc.compilation.measured_passes import Errors

            pair = self._entry.errors[name]
            return None if pair is None else Errors(*pair)
        found = self._inner.errors(key, make)
        self._made["errors"][name] = None if found is None else (found.fast, found.plain)
        return found

    def own_mask(self, key: Hashable, make: Callable[[], OwnMask]) -> OwnMask:
        """See CompileCache."""
        return self._inner.own_mask(key, make)

    def recalled(self, key: str) -> np.ndarray | None:
        """An array that an earlier run kept."""
        if self._entry is None or key not in self._entry.arrays:
            return None
        found: np.ndarray | None = entries.load_array(self._path, *self._entry.arrays[key])
        return found

    def keep(self, key: str, value: np.ndarray) -> None:
        """Keep an array for later runs."""
        arrays = self._made["arrays"]
        if self._entry is None and key not in arrays:
            name = f"{len(arrays)}.npy"
            arrays[key] = (name, entries.save_array(self._staged(), name, value))

    def own_way(self, make: Callable[[], Any], path: Path) -> Any:
        """Run the source's own code on a made-up picture."""
        with self._watch.window(path):
            return make()

    def commit(self) -> None:
        """Publish what was made, if it is known what it depends on."""
        if self._entry is not None or self._staging is None or "model" not in self._made:
            self.discard()
            return
        given = [os.path.abspath(path) for path in (self._request.source, self._request.checkpoint) if path]
        found = dependencies.of(self._watch, [path for path in given if os.path.isfile(path)])
        if isinstance(found, str):
            _log.info("the trace is not kept: %s", found)
            self.discard()
            return
        try:
            entries.write(Entry(format=entries.FORMAT, dependencies=found, **self._made), self._staging)
        except (TypeError, ValueError, OSError) as error:  # a value that JSON does not have, or a full disk
            _log.info("the trace is not kept: %s", error)
            self.discard()
            return
        folder.publish(self._staging, self._path)
        self._staging = None

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None


class _OwnWay:
    """A source's own way from a file to a mask, whose results are kept by the content of the file."""

    def __init__(self, kept: KeptTraces, own: OnFiles | None, shrinks: bool | None = None) -> None:
        self._kept, self._own = kept, own
        self.shrinks = bool(own.shrinks if own is not None else shrinks)

    def _real(self) -> OnFiles:
        own = self._own or self._kept.really().on_files
        assert own is not None
        return own

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """See OnFiles. That nothing is seen is kept as an empty array."""
        key = f"tensor {_digest(path.read_bytes())} {fixed}"
        known = self._kept.recalled(key)
        if known is None:
            found = self._kept.own_way(lambda: self._real().tensor(path, fixed), path)
            self._kept.keep(key, np.zeros(0, np.float32) if found is None else found)
            return found  # type: ignore[no-any-return]
        return known if known.size else None

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """See OnFiles."""
        said = {k: v for k, v in how.to_json().items() if k in ("input", "output", "preprocessing", "inference")}
        key = f"mask {_digest(path.read_bytes())} {fixed} {shrink} {sha256_of(canonical(said))}"
        parts = [self._kept.recalled(f"{key} {part}") for part in ("tensor", "mask", "logits")]
        if all(part is not None for part in parts):
            tensor, mask, logits = (None if part is None or not part.size else part for part in parts)
            assert mask is not None
            return OwnMask(tensor, mask, logits)
        found: OwnMask = self._kept.own_way(lambda: self._real().mask(path, how, fixed, shrink), path)
        for part in ("tensor", "mask", "logits"):
            value = getattr(found, part)
            self._kept.keep(f"{key} {part}", np.zeros(0, np.float32) if value is None else value)
        return found


def _traced(content: bytes, kept: Entry) -> Traced:
    import onnx

    from segc.frontend.traced import Traced

    return Traced(onnx.ModelProto.FromString(content), kept.rewrites, kept.trace_notes)


def _reference_key(kind: str, x: np.ndarray) -> str:
    return f"reference {kind} {x.shape} {x.dtype} {_digest(np.ascontiguousarray(x).tobytes())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
