"""The numbers that options take, the same for the command line and for the functions. NaN and infinity are in none."""

from __future__ import annotations

from dataclasses import dataclass

from segc.errors import Code, UsageError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `whole` ones only, or any. says: what low and high mean."""

    low: float
    high: float
    whole: bool = False
    says: str = ""

    @property
    def words(self) -> str:
        """For messages."""
        kind = "a whole number" if self.whole else "a number"
        if self.low <= -_MOST:
            return f"{kind} that is finite"
        upper = f"to {self.high:g}" if self.high < _UNBOUNDED else "on"
        return f"{kind} from {self.low:g} {upper}"

    def require(self, name: str, value: float) -> None:
        """Raise UsageError unless `value` is one. name: of the option."""
        kind = int if self.whole else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise UsageError(
                f"{name} {_shown(value)} is not valid",
                code=Code.INVALID_NUMBER,
                because=f"it takes {self.words}",
                so=self.says,
            )

    def read(self, name: str, text: str) -> float:
        """The number in `text`. Raises UsageError."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            raise UsageError(
                f"{name} '{text[:40]}' is not valid",
                code=Code.INVALID_NUMBER,
                because=f"it takes {self.words}",
                so=self.says,
            ) from None
        self.require(name, value)
        return value


def _shown(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


_MOST, _UNBOUNDED = 1e15, 1 << 31
MOST_THREADS = 1024  # more than any machine runs at once; each takes memory of its own
POINTS = Range(0, 100, says="points of mIoU, of 100")
THREADS = Range(0, MOST_THREADS, True, "0 leaves the number to the runtime")
OPACITY = Range(0, 1, says="0 shows the image alone, 1 the colours alone")
LIMIT = Range(-_MOST, _MOST)  # of an error or a share; one that nothing reaches refuses everything
SECONDS = Range(0.001, _MOST)
MEGABYTES = Range(0, _MOST, says="0 writes all weights beside the file")
GIBIBYTES = Range(0.25, 1 << 20, says="0.25 is what the libraries themselves need")
COUNT = Range(1, 1 << 31, True, "at least 1")
CHANNELS = Range(1, 1 << 16, True, "at least 1")
JOBS = Range(1, MOST_THREADS, True, "at least 1")
PIXELS = Range(1, _MOST, True, "at least 1")
BAND = Range(1, 1000, True, "1 is the pixels beside a boundary alone")
SEED = Range(0, (1 << 31) - 1, True, "the same seed gives the same numbers")
PICTURES = Range(0, 99, True, "0 writes none")
LABEL = Range(0, 65535, True, "255 where labels have 8 bits")
PORT = Range(0, 65535, True, "0 takes a free one")
TURNS = Range(0, 1 << 20, True, "0 counts the first call too")
PAUSE = Range(0, 3600, says="0 waits for nothing")
EVERY = Range(1, 1 << 31, True, "1 takes every frame")
WAITING = Range(0, 1 << 20, True, "0 lets none wait")
