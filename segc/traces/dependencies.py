"""What a kept trace was made from, with digests, and whether all of it is still the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segc import __version__
from segc.bundle.canonical_json import sha256_of
from segc.runtime.processor import describe
from segc.traces.watch import Watch, kind_of, top_of

_SETTLED = 2.0  # seconds: a file that changes again so soon after may keep its times
_SYSTEM = ("/dev/", "/proc/", "/sys/")  # the state of the machine; the processor is told apart
# variables of a shell's session that no model depends on
_OF_SESSION = (
    "PWD", "OLDPWD", "SHLVL", "_", "TERM", "TERM_PROGRAM", "COLUMNS", "LINES", "WINDOWID", "DISPLAY", "SHELL", "PS1",
    "LS_COLORS", "LESSOPEN", "LESSCLOSE", "MAIL", "HISTFILE", "STY", "TMUX", "TMUX_PANE", "COLORTERM", "EDITOR",
    "PAGER", "SEGC_CACHE", "SEGC_CACHE_LIMIT", "SEGC_LOG", "SEGC_DEBUG", "PYTEST_CURRENT_TEST", "INVOCATION_ID",
    "JOURNAL_STREAM",
)  # fmt: skip
_OF_SESSIONS = ("SSH_", "XDG_", "DBUS_", "GPG_", "VSCODE_")


Signature = tuple[str, int, str]


@dataclass(frozen=True)
class Dependencies:
    """files: path -> SHA-256, bytes, times and number of the file, "" where it had just changed.

    kinds: path -> what was there. listings: folder -> digest of its names. tried, folders, packages: names that
    imports asked for, and where; importable: digest of what they find.
    machine: digest of versions, the processor, the environment and installed distributions.
    """

    files: Mapping[str, Signature]
    kinds: Mapping[str, str]
    listings: Mapping[str, str]
    tried: tuple[str, ...]
    folders: tuple[str, ...]
    packages: tuple[str, ...]
    importable: str
    machine: str


def of(watch: Watch, given: Iterable[str]) -> Dependencies | str:
    """Everything that was seen, or why it cannot be told. given: files that are read for certain."""
    if watch.reasons:
        return watch.reasons[0]
    if watch.natives:
        return f"native code of {', '.join(sorted(watch.natives)[:3])} may read files unseen"
    read = {
        path for path in watch.read
        if path not in watch.excused and not watch.is_temporary(path) and not path.startswith(_SYSTEM)
    }  # fmt: skip
    if both := sorted(path for path in read & watch.written if os.path.exists(path)):
        return f"'{both[0]}' was read and written"
    files: dict[str, Signature] = {}
    absent: dict[str, str] = {}
    for path in sorted(read | _loaded() | set(given)):
        if kind_of(path) == "file":
            files[path] = _signed(path)
        else:
            absent[path] = kind_of(path)
    kinds = {path: kind for path, kind in watch.checked.items() if not _passing(path, watch)}
    listings = {path: _listing(path) for path in sorted(watch.listed) if not _passing(path, watch)}
    tried = tuple(sorted({name.split(".")[0] for name in (*watch.imported, *sys.modules) if name}))
    folders, packages = tuple(dict.fromkeys([*watch.path, *sys.path])), _own_packages()
    importable = _importable(tried, folders, packages)
    return Dependencies(files, {**kinds, **absent}, listings, tried, folders, packages, importable, _machine(watch))


def difference(found: Dependencies, watch: Watch) -> str | None:
    """What is not as it was, or None."""
    if found.machine != _machine(watch):
        return "versions, installed packages, the processor or the environment"
    if found.importable != _importable(found.tried, found.folders, found.packages):
        return "what imports find"
    for path, signature in found.files.items():
        if not _same(path, signature):
            return path
    for path, kind in found.kinds.items():
        if kind_of(path) != kind:
            return path
    return next((path for path, digest in found.listings.items() if _listing(path) != digest), None)


def _passing(path: str, watch: Watch) -> bool:
    return path.startswith(_SYSTEM) or path in watch.excused or watch.is_temporary(path) or path in watch.written


def _loaded() -> set[str]:
    """Files of all loaded modules."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {os.path.abspath(file) for file in files if isinstance(file, str) and not file.startswith("<")}


def _signed(path: str) -> Signature:
    before = os.stat(path)
    digest = _digest(path)
    settled = max(before.st_mtime, before.st_ctime) < time.time() - _SETTLED
    return digest, before.st_size, _times(before) if settled else ""


def _times(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {status.st_dev}"


def _same(path: str, signature: Signature) -> bool:
    digest, size, times = signature
    try:
        status = os.stat(path)
        if status.st_size != size:
            return False
        return _times(status) == times or _digest(path) == digest
    except OSError:
        return False


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listing(path: str) -> str:
    try:
        return sha256_of("\n".join(sorted(os.listdir(path))).encode(errors="surrogateescape"))
    except OSError:
        return ""


def _importable(tried: Iterable[str], folders: Iterable[str], packages: Iterable[str]) -> str:
    """Which of these names each folder that is searched has, what is installed there, and the modules of packages."""
    wanted = set(tried)
    found: list[Any] = []
    for folder in folders:
        names = _names(folder or ".")
        found.append([folder, [name for name in names if name.split(".")[0] in wanted and _is_code(name)]])
        found.append([name for name in names if name.endswith((".dist-info", ".egg-info", ".pth"))])
    found += [[folder, [name for name in _names(folder) if _is_code(name)]] for folder in packages]
    return sha256_of(json.dumps(found).encode())


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_code(name: str) -> bool:
    return name.endswith((".py", ".so", ".pyd", ".zip")) or name.isidentifier()


def _own_packages() -> tuple[str, ...]:
    """Folders of loaded packages that lie in no site-packages: an optional module may come to one."""
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(top_of(file)) and hasattr(module, "__path__"):
            found.add(os.path.dirname(file) if not name.startswith("segc") else "")
    return tuple(sorted(found - {""}))


def _machine(watch: Watch) -> str:
    """Versions, the processor, and the environment as it was before anything changed it."""
    environment = {
        name: value for name, value in watch.environment.items()
        if name not in _OF_SESSION and not name.startswith(_OF_SESSIONS)
    }  # fmt: skip
    told = [
        __version__, sys.version, platform.platform(), describe(), os.cpu_count(), watch.path, sys.flags.optimize,
        sorted(environment.items()),
    ]  # fmt: skip
    return sha256_of(json.dumps(told).encode())
