"""The state file of an evaluation: a line for each finished image, so that a stopped evaluation goes on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from segc.files.state_file import StateFile
from segc.validation.areas import Areas, packed, unpacked
from segc.validation.evaluate import Answer, Question
from segc.validation.pairs import Pair

_FORMAT = 1


class State:
    """Finished images in a file, or in none."""

    def __init__(self, path: Path | None, question: Question, classes: int) -> None:
        """Raises FileError when the file cannot be read, or belongs to another evaluation."""
        head = {
            "format": _FORMAT, "models": question.models.digest(), "labels": question.rules.to_json(),
            "boundary": question.band, "classes": classes,
        }  # fmt: skip
        self._file = None if path is None else StateFile(path, head, "evaluation", "segc val")
        self._rows: dict[str, tuple[tuple[Areas, ...], dict[int, int]]] = {}
        for row in self._file.rows if self._file is not None else ():
            try:
                areas = tuple(unpacked(part, classes) for part in row["areas"])
                self._rows[row["key"]] = areas, {int(label): int(count) for label, count in row["unknown"].items()}
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                continue  # the image is evaluated again

    def known(self, pairs: Iterable[Pair]) -> list[Answer]:
        """The images of these whose files are as they were when they were evaluated."""
        found = []
        for pair in pairs:
            if (row := self._rows.get(pair.key)) is not None:
                found.append(Answer(pair, *row))
        return found

    def add(self, answer: Answer) -> None:
        """Append a finished image. Raises FileError."""
        if self._file is None or answer.error is not None:
            return
        self._file.add(
            {"key": answer.pair.key, "areas": [packed(areas) for areas in answer.areas], "unknown": answer.unknown}
        )
