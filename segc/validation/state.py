"""The state file of an evaluation: a line for each finished image, so that a stopped evaluation goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segc.errors import Code, FileError
from segc.files.errors import file_errors
from segc.validation.areas import Areas, packed, unpacked
from segc.validation.evaluate import Answer, Question
from segc.validation.pairs import Pair

_FORMAT = 1


class State:
    """Finished images in a file, or in none. Lines are appended; one that a killed process cut off does not count."""

    def __init__(self, path: Path | None, question: Question, classes: int) -> None:
        """Raises FileError when the file cannot be read, or belongs to another evaluation."""
        self._path, self._classes = path, classes
        self._head = {
            "format": _FORMAT, "models": question.models.digest(), "labels": question.rules.to_json(),
            "boundary": question.band, "classes": classes,
        }  # fmt: skip
        self._rows = {} if path is None else self._read(path)
        self._is_new = path is not None and not path.exists()

    def known(self, pairs: Iterable[Pair]) -> list[Answer]:
        """The images of these whose files are as they were when they were evaluated."""
        found = []
        for pair in pairs:
            if (row := self._rows.get(pair.key)) is not None:
                found.append(Answer(pair, *row))
        return found

    def add(self, answer: Answer) -> None:
        """Append a finished image. Raises FileError."""
        if self._path is None or answer.error is not None:
            return
        row = {"key": answer.pair.key, "areas": [packed(areas) for areas in answer.areas], "unknown": answer.unknown}
        self._append([self._head, row] if self._is_new else [row])
        self._is_new = False

    def _append(self, rows: list[dict[str, Any]]) -> None:
        """Add lines; one that a killed process left unfinished is ended first, so that it spoils itself alone."""
        assert self._path is not None
        text = "".join(json.dumps(row) + "\n" for row in rows)
        with file_errors(f"'{self._path}'", self._path, needed=lambda: len(text)), self._path.open("ab+") as file:
            if end := file.tell():
                file.seek(end - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())

    def _read(self, path: Path) -> dict[str, tuple[tuple[Areas, ...], dict[int, int]]]:
        try:
            if not path.exists():
                return {}
            head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        except (OSError, ValueError) as error:
            raise FileError(
                f"cannot read the state file {path}", code=Code.UNREADABLE,
                because=getattr(error, "strerror", "") or str(error),
            ) from error  # fmt: skip
        self._require_same(path, head)
        found = {}
        for line in lines:
            try:
                row = json.loads(line)
                areas = tuple(unpacked(part, self._classes) for part in row["areas"])
                found[row["key"]] = areas, {int(label): int(count) for label, count in row["unknown"].items()}
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                continue  # cut off: the image is evaluated again
        return found

    def _require_same(self, path: Path, head: str) -> None:
        try:
            found = json.loads(head)
        except ValueError:
            found = None
        if found == self._head:
            return
        differ = [key for key in self._head if found.get(key) != self._head[key]] if isinstance(found, dict) else []
        raise FileError(
            f"the state file {path} belongs to another evaluation", code=Code.OTHER_STATE,
            because=f"other: {', '.join(differ)}" if differ else "it does not begin as `segc val` begins one",
            so="choose another file with --state, or delete this one",
        )  # fmt: skip
