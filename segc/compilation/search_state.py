"""The state file of a search for int8: a line for each thing measured, so that a search that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segc.errors import Code, FileError
from segc.files.errors import file_errors

_HEAD = {"format": 1, "of": "segc compile"}


class SearchState:
    """What searches measured, in a file. A line that a killed process cut off does not count.

    See `Memory` of segc.passes.support.int8_search: searches of other graphs and images lie in the file side by side.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileError when the file cannot be read, or is no such file."""
        self._path = path
        self._known: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._is_new = not self._read()

    def recall(self, search: str, what: str) -> Mapping[str, Any] | None:
        """What was kept under these names, or None."""
        return self._known.get((search, what))

    def keep(self, search: str, what: str, found: Mapping[str, Any]) -> None:
        """Append it. Raises FileError."""
        self._known[search, what] = found
        rows = [*([_HEAD] if self._is_new else []), {"search": search, "what": what, "found": dict(found)}]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        with file_errors(f"'{self._path}'", self._path, needed=lambda: len(text)), self._path.open("ab+") as file:
            if end := file.tell():
                file.seek(end - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())
        self._is_new = False

    def _read(self) -> bool:
        """Take the lines of the file; whether there are any."""
        try:
            if not self._path.exists():
                return False
            head, *lines = self._path.read_text(encoding="utf-8").splitlines() or [""]
            if head and json.loads(head) != _HEAD:
                raise ValueError("it does not begin as `segc compile` begins one")
        except (OSError, ValueError) as error:
            raise FileError(
                f"the state file {self._path} cannot be used", code=Code.OTHER_STATE,
                because=getattr(error, "strerror", "") or str(error),
                so="choose another file with --state, or delete this one",
            ) from error  # fmt: skip
        for line in lines:
            try:
                row = json.loads(line)
                self._known[row["search"], row["what"]] = dict(row["found"])
            except (ValueError, KeyError, TypeError):
                continue  # cut off: it is measured again
        return bool(head)
