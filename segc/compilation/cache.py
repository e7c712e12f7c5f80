"""Share the opened model, its traces and its reference outputs between several compiles of one source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.frontend.model import OwnMask, Source
from segc.frontend.remembered import kind_of

if TYPE_CHECKING:
    from segc.compilation.measured_passes import Errors
    from segc.frontend.traced import Traced

_log = logging.getLogger(__name__)


class CompileCache:
    """Keeps results for all compiles that use this cache. A compile gets copies of what it consumes."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def source(self, key: Hashable, make: Callable[[], Source]) -> Source:
        """The opened source."""
        source: Source = self._get(("source", key), make)
        return source

    def grown(self, source: Source, make: Callable[[], Source]) -> Source:
        """The source with logits at the size of its input; it is as cheap as the source itself."""
        return make()

    def described(self, module: Any) -> None:
        """Told the module that was traced."""

    def traced(self, key: Hashable, make: Callable[[], Traced]) -> Traced:
        """A copy of the traced model: the import into the IR consumes it."""
        import onnx

        kept: Traced = self._get(("traced", key), make)
        model = onnx.ModelProto()
        model.CopyFrom(kept.model)
        return replace(kept, model=model)

    def forget_traces(self) -> None:
        """Free the traced models, each as large as the weights, once no compile needs them any more."""
        self._kept = {
            key: kept for key, kept in self._kept.items() if not (isinstance(key, tuple) and key[0] == "traced")
        }

    def limits(self, make: Callable[[], tuple[int, tuple[int, int]]]) -> tuple[int, tuple[int, int]]:
        """The divisor and the smallest size of the eager model."""
        limits: tuple[int, tuple[int, int]] = self._get("limits", make)
        return limits

    def reference(self, source: Source, run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """The function `run` of the source, with its outputs cached by the content of the input."""
        kind = (
            kind_of(source.module),
            source.info.random_seed,
        )  # logits may be resized to the input's size, for masks, or not

        def remembered(x: np.ndarray) -> np.ndarray:
            output: np.ndarray = self._get(("reference", kind, x.shape, hash(x.tobytes())), lambda: run(x))
            return output

        return remembered

    def errors(self, key: Hashable, make: Callable[[], Errors | None]) -> Errors | None:
        """What measured passes cost; see segc.compilation.measured_passes."""
        errors: Errors | None = self._get(("errors", key), make)
        return errors

    def own_mask(self, key: Hashable, make: Callable[[], OwnMask]) -> OwnMask:
        """What the source's own code makes of a picture."""
        mask: OwnMask = self._get(("own mask", key), make)
        return mask

    def _get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        else:
            _log.debug("reused from the cache: %s", key[0] if isinstance(key, tuple) else key)
        return self._kept[key]


class NoCache(CompileCache):
    """Keeps and copies nothing; for a single compile."""

    def traced(self, key: Hashable, make: Callable[[], Traced]) -> Traced:
        """The traced model itself."""
        return make()

    def _get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        return make()
