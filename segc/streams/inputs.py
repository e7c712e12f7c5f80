"""What the words after the bundle name: images and folders, videos, patterns, addresses, cameras, standard input."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segc.errors import Code, FileError, UsageError

VIDEO_EXTENSIONS = frozenset(
    (
        ".3gp", ".avi", ".flv", ".h264", ".h265", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
        ".mxf", ".ogv", ".ts", ".webm", ".wmv", ".y4m",
    )
)  # fmt: skip
SCHEMES = frozenset(("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"))


@dataclass(frozen=True)
class Video:
    """A stream of frames, and the name, without extension, of what is made from it."""

    kind: Literal["file", "address", "camera", "stdin"]
    name: str
    stem: str

    @property
    def is_live(self) -> bool:
        """Whether frames come at their own pace."""
        return self.kind in ("address", "camera")


def sorted_out(given: Sequence[str | Path]) -> tuple[list[str | Path], list[Video]]:
    """Images and folders as they were given, and videos. Raises FileError, UsageError."""
    images: list[str | Path] = []
    videos: list[Video] = []
    for one in (each for word in given for each in _expanded(word)):
        video = _video(one)
        if video is None:
            images.append(one)
        elif all(video.name != other.name for other in videos):
            videos.append(video)
    taken: set[str] = set()
    for at, video in enumerate(videos):
        stem, number = video.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{video.stem}-{number}"
        taken.add(stem.casefold())
        videos[at] = Video(video.kind, video.name, stem)
    return images, videos


def _expanded(word: str | Path) -> list[str | Path]:
    """The files that match a pattern; anything else as it is, also a file whose name looks like a pattern."""
    text = str(word)
    if not any(sign in text for sign in "*?[") or _scheme(text) or _exists(word):
        return [word]
    pattern = Path(text)
    root = Path(pattern.anchor) if pattern.anchor else Path()
    matching = root.glob(str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern))
    found: list[str | Path] = sorted(path for path in matching if not path.is_dir())
    if not found:
        raise FileError(f"no file matches '{text}'", code=Code.NOT_FOUND, so="give a file or a folder")
    return found


def _video(word: str | Path) -> Video | None:
    text = str(word)
    if text == "-":
        return Video("stdin", "-", "stdin")
    if (scheme := _scheme(text)) is not None:
        if scheme not in SCHEMES:
            raise UsageError(
                f"'{text}' is no address that frames are read from", code=Code.UNKNOWN_NAME,
                because=f"known are {', '.join(sorted(SCHEMES))}",
            )  # fmt: skip
        return Video("address", text, re.sub(r"\W+", "-", text.partition("://")[2].split("@")[-1]).strip("-") or scheme)
    if text.isascii() and text.isdigit() and not _exists(word):
        return Video("camera", text, f"camera{int(text)}")
    if Path(text).suffix.lower() in VIDEO_EXTENSIONS and not Path(text).is_dir():
        return Video("file", text, Path(text).stem)
    return None


def _scheme(text: str) -> str | None:
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", text)
    return found[1].lower() if found else None


def _exists(word: str | Path) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False
