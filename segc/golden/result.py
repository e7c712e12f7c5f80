"""The result file of a golden kit, as a checker wrote it on another machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc.bundle.canonical_json import sha256_of_file
from segc.bundle.manifest import NAME
from segc.errors import BundleError, Code, FileError
from segc.files.regular import read_regular
from segc.parity.limits import Limits

_LARGEST = 1 << 24  # bytes


@dataclass(frozen=True)
class KitCase:
    """One comparison on the other machine. The figures are None where the shape was another, the error for masks."""

    name: str
    shape: tuple[int, ...]
    wanted: tuple[int, ...]
    relative_error: float | None
    agreement: float | None
    milliseconds: float

    def failures(self, limits: Limits) -> list[str]:
        """One sentence for each limit that is missed."""
        if self.shape != self.wanted or self.agreement is None:
            return [f"{self.name}: the engine returns shape {list(self.shape)}, not {list(self.wanted)}"]
        said, error = [], self.relative_error
        if limits.relative_error is not None and error is not None and not error <= limits.relative_error:
            said.append(f"{self.name}: relative logit error {error:.2e}, limit {limits.relative_error:.0e}")
        if not self.agreement >= limits.agreement:
            said.append(f"{self.name}: {self.agreement:.4%} of pixels equal, limit {limits.agreement:.2%}")
        return said


@dataclass(frozen=True)
class KitResult:
    """What a checker found: with which runtime, on which machine."""

    runtime: str
    machine: str
    cases: tuple[KitCase, ...]

    def failures(self, limits: Limits) -> list[str]:
        """One sentence for each limit that a case misses."""
        return [line for case in self.cases for line in case.failures(limits)]


def read(path: Path, bundle: Path) -> KitResult:
    """Read a result file for this bundle. Raises FileError, BundleError (the kit is of another bundle)."""
    try:
        content = json.loads(read_regular(path, _LARGEST))
        result = KitResult(str(content["runtime"]), str(content["machine"]), tuple(map(_case, content["cases"])))
        made_for, known = str(content["bundle"]), content["format"] == 1 and bool(result.cases)
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error),
            so="give the result.json of a kit",
        ) from error  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _no_result(path, str(error)) from error
    if not known:
        raise _no_result(path, "it has no cases, or another format")
    if made_for != sha256_of_file(bundle / NAME):
        raise BundleError(
            f"'{path}' is the result of a kit of another bundle", code=Code.KIT_OF_ANOTHER_BUNDLE,
            because=f"that bundle's {NAME} has the digest {made_for[:16]}...", so="make the kit again: segc kit",
        )  # fmt: skip
    return result


def _case(entry: dict[str, Any]) -> KitCase:
    shape, wanted = (tuple(map(int, entry[key])) for key in ("shape", "wanted"))
    error, agreement = (_number(entry.get(key)) for key in ("relative_error", "agreement"))
    return KitCase(str(entry["name"]), shape, wanted, error, agreement, float(entry["milliseconds"]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _no_result(path: Path, because: str) -> FileError:
    return FileError(
        f"'{path}' is no result of a kit", code=Code.NOT_A_RESULT, because=because, so="run the kit's checker again",
    )  # fmt: skip
