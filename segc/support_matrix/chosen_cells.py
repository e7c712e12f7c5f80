"""Read which cells of the support matrix to fill from a text file, a cell a line: FAMILY TARGET SHAPE OUTPUT."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from segc.errors import Code, FileError, UsageError
from segc.files.regular import read_regular
from segc.suggestions import did_you_mean
from segc.support_matrix.cells import OUTPUTS, SHAPES

_MOST = 1 << 20  # bytes: thousands of lines
_COLUMNS = ("family", "target", "shape", "output")

Place = tuple[str, str, str]  # shape, target, output


def read(path: Path, families: Collection[str], targets: Collection[str]) -> dict[str, tuple[Place, ...]]:
    """Family -> its cells, in the order of the file. Empty lines and lines that start with '#' are comments.

    Raises FileError if the file cannot be read or names no cell, UsageError for a line that names no cell.
    """
    try:
        lines = read_regular(path, _MOST).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise FileError(
            f"'{path}' cannot be read", code=Code.UNREADABLE, because=getattr(error, "strerror", None) or str(error),
            so="give a text file with one cell a line: FAMILY TARGET SHAPE OUTPUT",
        ) from error  # fmt: skip
    known = dict(zip(_COLUMNS, (families, targets, SHAPES, OUTPUTS), strict=True))
    found: dict[str, dict[Place, None]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        family, target, shape, output = _words(line, f"{path}:{number}", known)
        found.setdefault(family, {})[shape, target, output] = None
    if not found:
        raise FileError(
            f"'{path}' names no cell", code=Code.UNREADABLE,
            because="every line is empty or a comment", so="write one cell a line: FAMILY TARGET SHAPE OUTPUT",
        )  # fmt: skip
    return {family: tuple(places) for family, places in found.items()}


def _words(line: str, where: str, known: Mapping[str, Collection[str]]) -> list[str]:
    words = line.split()
    if len(words) != len(_COLUMNS):
        raise UsageError(
            f"{where} names no cell", code=Code.UNKNOWN_NAME, because=f"it has {len(words)} words: '{line.strip()}'",
            so="write one cell a line: FAMILY TARGET SHAPE OUTPUT",
        )  # fmt: skip
    for word, (column, names) in zip(words, known.items(), strict=True):
        if word not in names:
            raise UsageError(
                f"{where}: there is no {column} '{word}'", code=Code.UNKNOWN_NAME,
                because=f"segc knows {', '.join(names)}", so=did_you_mean(word, names),
            )  # fmt: skip
    return words
