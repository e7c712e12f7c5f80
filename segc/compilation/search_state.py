"""The state file of a search for int8: a line for each thing measured, so that a search that was stopped goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segc.files.state_file import StateFile


class SearchState:
    """What searches measured, in a file; see `Memory` of segc.passes.support.int8_search.

    Searches of other graphs and images lie in the file side by side.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileError when the file cannot be read, or is no such file."""
        self._file = StateFile(path, {"format": 1, "of": "segc compile"}, "kind of work", "segc compile")
        self._known: dict[tuple[Any, Any], Mapping[str, Any]] = {
            (row.get("search"), row.get("what")): found
            for row in self._file.rows
            if isinstance(found := row.get("found"), dict)
        }

    def recall(self, search: str, what: str) -> Mapping[str, Any] | None:
        """What was kept under these names, or None."""
        return self._known.get((search, what))

    def keep(self, search: str, what: str, found: Mapping[str, Any]) -> None:
        """Append it. Raises FileError."""
        self._known[search, what] = found
        self._file.add({"search": search, "what": what, "found": dict(found)})
