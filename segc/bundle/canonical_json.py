"""Canonical JSON: one text for one value, so that equal manifests are equal bytes and digests can be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical(value: Any) -> bytes:
    """UTF-8, keys sorted, two-space indent, a newline at the end.

    Raises ValueError for NaN, infinity and text that is not Unicode, TypeError for what JSON cannot hold.
    """
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256_of(content: bytes) -> str:
    """Lower-case hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The same for a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
