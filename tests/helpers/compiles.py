"""Compiles of sources in Python that share what they can: one text is opened and traced once in a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import segc
from segc.commands.compile import compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request

_OPENED: dict[str, tuple[Path, CompileCache]] = {}


def compiled(path: Path, **options: Any) -> segc.Bundle:
    """`segc.compile`, for a source that other tests compile too, for other targets or outputs.

    The first file with the same text is compiled; tests of opening and tracing themselves call `segc.compile`.
    """
    first, cache = _OPENED.setdefault(path.read_text(encoding="utf-8"), (path, CompileCache()))
    return compile_request(Request(first, **options), cache=cache)
