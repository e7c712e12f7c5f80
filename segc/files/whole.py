"""Write files completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from segc.files import claims, published
from segc.files.errors import file_errors
from segc.files.interrupts import held


def write_whole(path: Path, content: bytes, *, durable: bool = True, result: bool = True) -> None:
    """Write a file, see `write_all`."""
    write_all({path: content}, durable=durable, result=result)


def write_all(files: Mapping[Path, bytes], *, durable: bool = True, result: bool = True) -> None:
    """Write files that belong together under temporary names. When all are complete, rename each, in this order.

    durable: flush the files to the disk, and delete leftovers of killed processes for these names. result: a later
    interrupt reports the files as published. Raises FileError; a file whose replacement failed is untouched.
    """
    with ExitStack() as stack:
        staged = {path: stack.enter_context(_whole(path, content, durable)) for path, content in files.items()}
        with held():
            for path, beside in staged.items():
                with file_errors(f"'{path}'", path):
                    beside.replace(path)
                    if result:
                        published.add(path)
                    if durable:
                        claims.sync(path.parent)


@contextmanager
def _whole(path: Path, content: bytes, durable: bool) -> Iterator[Path]:
    """A temporary file in the folder of `path` with this content."""
    if durable:
        for left in claims.left_over(path):
            claims.remove(left)
    with ExitStack() as stack:
        with file_errors(f"'{path}'", path, needed=lambda: len(content)):
            staged = stack.enter_context(claims.in_the_making(path, Path.touch))
            staged.write_bytes(content)
            if durable:
                claims.sync(staged)
        yield staged
