"""Bundles on disk: written whole or not at all, and read only when every byte is as it was written.

A bundle NAME is built in `.NAME.segc-` and 16 digits beside it, on the same file system. When it is complete, it takes
its name; where a bundle lies there, the two exchange their names in one step, and the old one is deleted. Where the
system cannot exchange names, the old bundle is called the same with `.old` for a moment; should the process be killed
then, the next one that reads or writes NAME puts it back. What else a killed process left is deleted by the next one
that writes NAME.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segc.bundle.canonical_json import canonical, sha256_of, sha256_of_file
from segc.bundle.manifest import NAME, FileRecord, Manifest, check_format
from segc.bundle.report import LARGEST_JSON, REPORT
from segc.bundle.signature import SIGNATURE, require_signed
from segc.errors import BundleError, Code, FileError
from segc.files import folders
from segc.files.regular import read_regular
from segc.files.whole_folder import Kind, files_below, write_folder

__all__ = ["Manifest", "Staging", "read_bundle", "read_manifest", "read_signed", "unlisted", "write_bundle"]

_log = logging.getLogger(__name__)

PAGE = "report.html"  # made of the bundle's files, and made anew by `segc report`
_DAMAGED = "copy the bundle again or compile the model again"


@dataclass
class Staging:
    """A bundle in the making: put files into `directory`, and set `manifest` before the block ends.

    `report` becomes report.json. `manifest.files` is filled in from what lies in the directory. page: called with the
    folder once segc.json is in it, and with the name that the bundle will have; what it returns becomes report.html,
    which the manifest does not list.
    """

    directory: Path
    manifest: Manifest | None = None
    report: Mapping[str, Any] | None = None
    page: Callable[[Path, str], bytes] | None = None


@contextmanager
def write_bundle(directory: Path | str, *, force: bool = False) -> Iterator[Staging]:
    """Write a bundle to `directory` atomically; its parents are created.

    An existing bundle is replaced only with `force`, an existing empty folder always, anything else never. Whatever
    ends the block early (an exception, Ctrl-C) leaves no trace and what existed before untouched.
    Raises FileError (destination refused, disk full, not writable), BundleError (no or an inconsistent manifest).
    """
    holder: list[Staging] = []
    name = Path(directory).resolve().name
    with write_folder(directory, _BUNDLE, lambda _: _complete(holder[0], name), force=force) as stage:
        holder.append(Staging(stage))
        yield holder[0]
    _log.info("published %s", Path(directory).resolve())


def read_bundle(directory: Path | str, public_key: str | Path | None = None) -> Manifest:
    """The manifest of a bundle whose every listed file is there and unchanged. Files not listed are ignored.

    public_key: a key of minisign, as a file or in base64, that must have signed the bundle. Raises BundleError for
    anything that is not as it was written or signed, FileError for what the system does not let us read. Cost: one pass
    over all files.
    """
    return read_signed(Path(directory), public_key)[1]


def read_signed(root: Path, public_key: str | Path | None = None) -> tuple[bytes, Manifest]:
    """`read_bundle`, and the bytes of the manifest, which are what a signature covers."""
    content = _manifest_bytes(root)
    if public_key is not None:  # before anything else is read from the file
        require_signed(content, root, public_key)
    manifest = Manifest.from_json(_parse(content))
    for name, record in manifest.files.items():
        _check_file(root, name, record)
    _log.debug("%s: %d files are as they were written", root, len(manifest.files))
    return content, manifest


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of a bundle alone; whether the files are as it says is not looked at. Raises as `read_bundle`."""
    return Manifest.from_json(_parse(_manifest_bytes(Path(directory))))


def unlisted(directory: Path, manifest: Manifest) -> list[str]:
    """Files below the bundle that the manifest does not list, sorted."""
    return sorted(set(files_below(directory)) - {NAME, SIGNATURE, PAGE, *manifest.files})


def _why_not_ours(folder: Path) -> str | None:
    """Why deleting `folder` might lose something that segc did not write, or None."""
    try:
        value = json.loads(read_regular(folder / NAME, LARGEST_JSON))
        ours = {NAME, SIGNATURE, PAGE, *value["files"]}
        known = isinstance(value["format"], int)
    except (FileError, OSError, ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        return f"it holds no {NAME} that segc can read, so it is not a bundle"
    foreign = [name for name in files_below(folder) if name not in ours]
    return f"besides a bundle it holds {', '.join(foreign[:3])}" if foreign else None


def _complete(staging: Staging, name: str) -> None:
    """Write report, manifest and page of the bundle that will have this name."""
    if staging.manifest is None:
        raise BundleError("the bundle has no manifest", code=Code.NO_BUNDLE, because="nothing set Staging.manifest")
    root = staging.directory
    if staging.report is not None:
        (root / REPORT).write_bytes(canonical(staging.report))
    files = [file for file in files_below(root) if file not in (NAME, PAGE)]
    manifest = replace(staging.manifest, files={file: _record(root / file, file) for file in files})
    content = canonical(Manifest.from_json(manifest.to_json()).to_json())
    (root / NAME).write_bytes(content)
    if staging.page is not None:
        (root / PAGE).write_bytes(staging.page(root, name))
    for file in files_below(root):
        _log.debug("wrote %s, %d bytes", file, (root / file).stat().st_size)


_BUNDLE = Kind("bundle", _why_not_ours)


def _manifest_bytes(root: Path) -> bytes:
    if root.is_dir() or folders.restore(root):
        try:
            return read_regular(root / NAME, LARGEST_JSON)
        except FileNotFoundError:
            raise BundleError(
                f"{root} is not a bundle",
                code=Code.NO_BUNDLE,
                because=f"it holds no {NAME}",
                so="segc compile writes bundles",
            ) from None
        except OSError as error:
            raise FileError(
                f"{root / NAME} cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)
            ) from error
    if root.exists():
        raise BundleError(f"{root} is not a bundle", code=Code.NO_BUNDLE, because="it is a file, a bundle is a folder")
    raise BundleError(
        f"there is no bundle at {root}", code=Code.NO_BUNDLE, so="check the path; segc compile writes bundles"
    )


def _parse(content: bytes) -> object:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{NAME} is damaged", code=Code.MANIFEST_DAMAGED, because=f"it is not JSON: {error}", so=_DAMAGED
        ) from error
    if isinstance(value, dict):
        check_format(value)
        try:
            same = canonical(value) == content
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"{NAME} is damaged", code=Code.MANIFEST_DAMAGED, because=str(error), so=_DAMAGED
            ) from error
        if not same:
            raise BundleError(
                f"{NAME} is damaged", code=Code.MANIFEST_DAMAGED, because="it is not in its canonical form", so=_DAMAGED
            )
    return value


def _check_file(root: Path, name: str, record: FileRecord) -> None:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleError(
            f"the bundle's file {name} lies outside of it",
            code=Code.BUNDLE_FILE,
            because=f"it is a link to {path.resolve()}",
            so=_DAMAGED,
        )
    if not path.is_file():
        raise BundleError(
            f"the bundle lacks its file {name}",
            code=Code.BUNDLE_FILE,
            because=f"{NAME} lists it",
            where=str(root),
            so=_DAMAGED,
        )
    try:
        found = _record(path, name)
    except OSError as error:
        raise FileError(f"{path} cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)) from error
    if found != record:
        size = f"it has {found.bytes} bytes, not {record.bytes}"
        digest = f"its digest is {found.sha256}, not {record.sha256}"
        because = size if found.bytes != record.bytes else digest
        raise BundleError(
            f"the bundle's file {name} is damaged", code=Code.BUNDLE_FILE, because=because, where=str(root), so=_DAMAGED
        )


def _record(path: Path, name: str) -> FileRecord:
    if name != REPORT:
        return FileRecord(sha256=sha256_of_file(path), bytes=path.stat().st_size)
    content = read_regular(path, LARGEST_JSON)
    try:
        value = json.loads(content)
        same = canonical(value) == content
    except (ValueError, RecursionError):
        same = False
    if not same or not isinstance(value, dict):
        raise BundleError(
            f"the bundle's file {name} is damaged",
            code=Code.BUNDLE_FILE,
            because="it is not canonical JSON",
            so=_DAMAGED,
        )
    lasting = canonical({key: part for key, part in value.items() if key != "timings"})
    return FileRecord(sha256=sha256_of(lasting), bytes=len(lasting))
