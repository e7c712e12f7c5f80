"""Sees what a process reads while it opens and traces a model: files, imports, listings, and what nobody can repeat.

Python reports opened files and imports to audit hooks. What native code reads unseen is known for the libraries of
`_KNOWN`; where another library with native code is loaded, nothing is kept.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# events of things that give another result each time, or happen in another process
_FOREIGN = {
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec",
    "os.posix_spawn", "os.fork", "os.forkpty", "sqlite3.connect", "urllib.Request",
}  # fmt: skip
# top folders of compiled modules that read no files but those that Python opens for them, or that `_READERS` names
_KNOWN = {
    "PIL", "_cffi_backend", "cffi", "charset_normalizer", "contourpy", "cv2", "frozenlist", "functorch", "google",
    "kiwisolver", "llvmlite", "lxml", "markupsafe", "matplotlib", "ml_dtypes", "mmcv", "multidict", "ncnn", "numba",
    "numpy", "onnx", "onnxruntime", "onnxsim", "openvino", "optree", "pandas", "propcache", "psutil", "pycocotools",
    "pydantic_core", "regex", "rpds", "safetensors", "scipy", "shapely", "simplejson", "sklearn", "tokenizers",
    "torch", "torchgen", "torchvision", "ujson", "wcwidth", "wrapt", "xxhash", "yaml", "yarl", "zstandard",
}  # fmt: skip
# functions in native code that take a path: module, attribute
_READERS = (
    ("cv2", "imread"), ("cv2", "imreadmulti"), ("cv2", "imcount"), ("cv2", "VideoCapture"), ("cv2", "FileStorage"),
    ("safetensors", "safe_open"), ("torch.jit", "load"), ("torch", "from_file"), ("torchvision.io.image", "read_file"),
)  # fmt: skip
_IMPORT = ("<frozen importlib", "<frozen zipimport")


class Watch:
    """What was seen in all windows. read, listed, checked: absolute paths; reasons: why nothing may be kept; natives:
    code that may read files unseen.

    environment, path: those of the interpreter when the watch began.
    """

    def __init__(self) -> None:
        self.environment, self.path = dict(os.environ), list(sys.path)  # before anything changes them
        self.read: set[str] = set()
        self.listed: set[str] = set()
        self.checked: dict[str, str] = {}
        self.imported: set[str] = set()
        self.written: set[str] = set()
        self.reasons: list[str] = []
        self.natives: set[str] = set()
        self.excused: set[str] = set()
        self._temporary: list[str] = []
        self._pending: list[tuple[str, str]] = []
        self._wrapped: list[tuple[ModuleType, str, Any]] = []
        self._depth = 0
        self._thread = 0
        self._checking = False

    @contextmanager
    def window(self, *excused: Path) -> Iterator[None]:
        """Record what this thread reads in the block. excused: files that the key of the result names itself."""
        self.excused |= {os.path.abspath(path) for path in excused}
        if self._depth:
            yield
            return
        import rich.default_styles  # noqa: F401 - draws from `random` while it is imported, for names of links

        states = _random_states()
        self._pending = list(_READERS)
        for name in ("stat", "lstat"):
            self._wrap(os, name, self._check)
        self._wrap_pending()
        self._depth, self._thread = 1, threading.get_ident()
        try:
            yield
        finally:
            self._depth = 0
            while self._wrapped:
                setattr(*self._wrapped.pop())
            self.natives |= set(unknown_natives())
        for name, before in states.items():
            if before != _random_states().get(name):
                self.reasons.append(f"{name} was drawn from, whose seed differs from run to run")

    def _wrap_pending(self) -> None:
        """Let functions in native code report their paths, once their modules are loaded."""
        for module, name in [each for each in self._pending if _is_ready(each[0]) and _is_ready(each[0].split(".")[0])]:
            self._pending.remove((module, name))
            if not hasattr(sys.modules[module], name):
                continue
            self._wrap(sys.modules[module], name, self._path)

    def _wrap(self, module: ModuleType, name: str, told: Callable[[Any], None]) -> None:
        original = getattr(module, name)
        self._wrapped.append((module, name, original))
        setattr(module, name, _reporting(original, told))

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An event of the interpreter."""
        if event == "import":
            self.imported.add(str(arguments[0]))
        if event in ("import", "exec") and self._pending and self._depth:
            self._wrap_pending()
        elif self._depth and threading.get_ident() == self._thread:
            self._heard(event, arguments)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(*arguments[:3])
        elif event in ("os.listdir", "os.scandir") and not _by_import():
            if not isinstance(arguments[0], int):  # a folder that is open already
                self.listed.add(_absolute("." if arguments[0] is None else arguments[0]))
        elif event in ("tempfile.mkdtemp", "tempfile.mkstemp"):
            self._temporary.append(_absolute(arguments[0]))
        elif event == "ctypes.dlopen" and isinstance(arguments[0], str) and os.sep in arguments[0]:
            self.read.add(_absolute(arguments[0]))
        elif event in _FOREIGN:
            self.reasons.append(f"{event} was called")

    def _open(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, int) or path is None or _by_import():
            return
        found = _absolute(path)
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        writes = writes or (isinstance(mode, str) and any(letter in mode for letter in "wax+"))
        (self.written if writes else self.read).add(found)

    def _path(self, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            self.read.add(_absolute(path))

    def _check(self, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike) and self._depth and not self._checking:
            self._checking = True  # `kind_of` asks for the same
            try:
                self.checked.setdefault(found := _absolute(path), kind_of(found))
            finally:
                self._checking = False

    def is_temporary(self, path: str) -> bool:
        """Whether a path lies in a folder that was made only for a while."""
        return any(path == each or path.startswith(each + os.sep) for each in self._temporary)


def kind_of(path: str) -> str:
    """What is at a path: "file", "folder" or "nothing"."""
    return "file" if os.path.isfile(path) else "folder" if os.path.isdir(path) else "nothing"


def unknown_natives() -> list[str]:
    """Loaded compiled modules outside the standard library that may read files unseen."""
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith((".so", ".pyd")) and (top := top_of(file)) and top not in _KNOWN:
            found.add(top)
    return sorted(found)


def top_of(file: str) -> str:
    """The top folder or module of a file in site-packages; its folder elsewhere; "" in the standard library."""
    if file.startswith(_STANDARD) and "-packages" not in file:
        return ""
    _, found, below = file.rpartition(f"-packages{os.sep}")
    return below.split(os.sep)[0].split(".")[0] if found else os.path.dirname(file)


_STANDARD = os.path.dirname(os.__file__)
_current: Watch | None = None


def begin() -> Watch | None:
    """Watch from here on. None in a process where code ran before that may have changed anything: one with torch."""
    global _current
    if _current is None:
        if "torch" in sys.modules:
            return None
        _current = Watch()
        sys.addaudithook(_hook)
    return _current


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _current is not None:
        _current.heard(event, arguments)


def _by_import() -> bool:
    """Whether the import machinery itself asks: what it finds is told by the modules that are loaded."""
    frame: Any = sys._getframe(3)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_IMPORT)


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _is_ready(module: str) -> bool:
    """Whether the module is loaded to its end."""
    found = sys.modules.get(module)
    return found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)


def _reporting(original: Callable[..., Any], told: Callable[[Any], None]) -> Callable[..., Any]:
    """`original`, which tells its first argument before."""

    @functools.wraps(original, updated=())
    def call(*arguments: Any, **named: Any) -> Any:
        if arguments:
            told(arguments[0])
        return original(*arguments, **named)

    return call


def _random_states() -> dict[str, Any]:
    """States of generators that are seeded from the system, by name."""
    import random

    found: dict[str, Any] = {"random": hash(random.getstate())}
    if (numpy := sys.modules.get("numpy")) is not None:
        name, keys, *rest = numpy.random.get_state()
        found["numpy.random"] = (name, keys.tobytes(), *rest)
    return found
