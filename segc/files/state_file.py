"""State files: a line of JSON for each thing that is done, so that work which was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segc.errors import Code, FileError
from segc.files.errors import file_errors


class StateFile:
    """Lines under a head that says which work they belong to. `rows` are those that lay in the file.

    Lines are appended; one that a killed process cut off does not count.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], what: str, command: str) -> None:
        """what: the work, for messages. Raises FileError when the file cannot be read, or belongs to other work."""
        self._path, self._head = path, dict(head)
        self._what, self._command = what, command
        self.rows: list[dict[str, Any]] = []
        self._is_new = not self._read()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a line. Raises FileError."""
        text = "".join(json.dumps(each) + "\n" for each in ([self._head, row] if self._is_new else [row]))
        with file_errors(f"'{self._path}'", self._path, needed=lambda: len(text)), self._path.open("ab+") as file:
            if end := file.tell():  # a line that a killed process left unfinished spoils itself alone
                file.seek(end - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())
        self._is_new = False

    def _read(self) -> bool:
        """Take the lines of the file; whether it exists."""
        try:
            if not self._path.exists():
                return False
            head, *lines = self._path.read_text(encoding="utf-8").splitlines() or [""]
        except (OSError, ValueError) as error:
            raise FileError(
                f"cannot read the state file {self._path}", code=Code.UNREADABLE,
                because=getattr(error, "strerror", "") or str(error),
            ) from error  # fmt: skip
        self._require_same(head)
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                self.rows.append(row)
        return True

    def _require_same(self, head: str) -> None:
        try:
            found = json.loads(head)
        except ValueError:
            found = None
        if found == self._head:
            return
        differ = [key for key in self._head if found.get(key) != self._head[key]] if isinstance(found, dict) else []
        raise FileError(
            f"the state file {self._path} belongs to another {self._what}", code=Code.OTHER_STATE,
            because=f"other: {', '.join(differ)}" if differ else f"it does not begin as `{self._command}` begins one",
            so="choose another file with --state, or delete this one",
        )  # fmt: skip
