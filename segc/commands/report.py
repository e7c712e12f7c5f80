"""`segc.report`: a page about bundles, for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segc.bundle.report import LARGEST_JSON
from segc.bundle.store import PAGE, read_bundle
from segc.errors import Code, FileError, UsageError
from segc.files.regular import read_regular
from segc.files.whole import write_whole
from segc.suggestions import checked_keywords


@dataclass(frozen=True)
class ReportPage:
    """The page at `path`, about these bundles."""

    path: Path
    bundles: tuple[Path, ...]


@checked_keywords
def report(
    bundles: str | Path | Sequence[str | Path],
    *,
    profile: Sequence[str | Path] = (),
    scores: Sequence[str | Path] = (),
    out: str | Path = PAGE,
) -> ReportPage:
    """Write one HTML file about the bundles, side by side. It refers to nothing outside itself.

    profile: files with what `segc bench --profile --json` printed; entries belong to bundles by their digests.
    scores: files val.json of `segc val`. out: the file, which is replaced.
    Raises BundleError for a bundle that is not as it was written, FileError, UsageError for other files.
    """
    from segc.reporting import page

    named = [bundles] if isinstance(bundles, str | Path) else list(bundles)
    if not named:
        raise UsageError("no bundle is given", code=Code.UNKNOWN_NAME, so="name the folders that segc compile wrote")
    paths = [Path(one) for one in named]
    for path in paths:
        read_bundle(path)
    profiles = [one for file in profile for one in _profiles(Path(file))]
    made = page.render(paths, profiles, [_scores(Path(file)) for file in scores])
    target = Path(out)
    if target.is_dir():
        raise FileError(f"'{target}' is a folder", code=Code.DESTINATION_TAKEN, so="name a file with -o")
    write_whole(target, made)
    return ReportPage(target.resolve(), tuple(paths))


def _profiles(path: Path) -> list[dict[str, Any]]:
    """The entries of a file, checked as far as the page reads them."""
    value = _read(path)
    kinds = {"sha256": str, "engine": str, "method": str, "total_ms": float, "layers": list}
    inner = {"name": str, "op": str, "origin": str, "module": str, "ms": float}
    found: list[Any] = [one.get("profile") for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    good = found and all(_has(one, kinds) and all(_has(layer, inner) for layer in one["layers"]) for one in found)
    if not good:
        raise _unusable(path, "segc bench --profile --json", "it has no list of profiles with times of layers")
    return found


def _scores(path: Path) -> dict[str, Any]:
    value = _read(path)
    good = _has(value, {"columns": list, "images": int}) and value["columns"] and all(map(_is_column, value["columns"]))
    lengths = {len(one["overall"]["classes"]) for one in value["columns"]} if good else set()
    if len(lengths) != 1:
        raise _unusable(path, "segc val --out DIR", "it has no columns with the IoU of the same classes")
    return dict(value)


def _is_column(value: Any) -> bool:
    if not (_has(value, {"name": str, "engine": str, "overall": dict}) and "m_iou" in value["overall"]):
        return False
    classes = value["overall"].get("classes")
    shares = [value["overall"]["m_iou"], *(one.get("iou") for one in classes or [] if isinstance(one, dict))]
    named = isinstance(classes, list) and all(_has(one, {"name": str}) for one in classes)
    return named and all(share is None or _is(share, float) for share in shares)


def _has(value: Any, kinds: dict[str, type]) -> bool:
    return isinstance(value, dict) and all(_is(value.get(key), kind) for key, kind in kinds.items())


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _read(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, LARGEST_JSON))
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)
        ) from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"'{path}' is not JSON", code=Code.UNREADABLE, because=str(error)[:200]) from error


def _unusable(path: Path, command: str, because: str) -> FileError:
    return FileError(
        f"'{path}' is not what the page can show", code=Code.UNREADABLE, because=because, so=f"{command} writes it"
    )
