"""Sources that are named, KIND:NAME: models of torchvision, segmentation-models-pytorch and transformers."""

from __future__ import annotations

import re
from pathlib import Path

KINDS = ("hf", "smp", "torchvision")
_NAMED = re.compile(rf"({'|'.join(KINDS)}):(.*)", re.DOTALL)


def split(source: str | Path) -> tuple[str, str] | None:
    """The kind and the name of a named source; None for a file or a name of mmseg's zoo."""
    found = _NAMED.fullmatch(str(source)) if isinstance(source, str) else None
    return None if found is None else (found[1], found[2])


def stem(source: str | Path) -> str:
    """What a bundle of the source is called: the name of its file or folder, or its own without slashes."""
    if (named := split(source)) is None:
        return Path(source).stem
    kind, name = named
    return Path(name.rstrip("/")).name if kind == "hf" else re.sub(r"[^\w.-]+", "-", name).strip("-")
