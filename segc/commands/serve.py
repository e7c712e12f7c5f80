"""`segc.serve`: serve bundles over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segc import packages, ranges
from segc.errors import Code, FileError, UsageError
from segc.suggestions import checked_keywords

HOST, PORT = "127.0.0.1", 8000
QUEUE, SECONDS = 16, 30.0
MAX_BYTES, MAX_PIXELS = 32 << 20, 1 << 26


@dataclass(frozen=True)
class Served:
    """What a server did until it ended: the names of its models, and the number of requests for masks."""

    models: tuple[str, ...]
    requests: int


@checked_keywords
def serve(
    bundles: str | Path | Sequence[str | Path],
    *,
    host: str = HOST,
    port: int = PORT,
    at_once: int = 0,
    queue: int = QUEUE,
    timeout: float = SECONDS,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
    public_key: str | Path | None = None,
    python: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Served:
    """Serve bundles over HTTP until the process is interrupted; requests that are worked on are finished first.

    Each bundle is a model with the name of its folder. host: the default reaches this machine alone; there is no
    authentication. at_once: images worked on at a time, 0 for half the cores. queue: requests that may wait beyond
    them, each for at most `timeout` seconds; others are refused with status 429. max_bytes, max_pixels: of an image.
    threads, public_key, python: as in `segc.load`. Raises SegcError if a bundle cannot be loaded, FileError if the port
    is taken, MissingPackageError (extra `serve`).
    """
    for name, value, range_ in (
        ("--port", port, ranges.PORT), ("--at-once", at_once, ranges.THREADS), ("--queue", queue, ranges.WAITING),
        ("--timeout", timeout, ranges.SECONDS), ("--max-bytes", max_bytes, ranges.COUNT),
        ("--max-pixels", max_pixels, ranges.PIXELS),
    ):  # fmt: skip
        range_.require(name, value)
    named = _named([bundles] if isinstance(bundles, str | Path) else list(bundles))
    try:
        import uvicorn

        from segc.serving.app import Limits, application
        from segc.serving.gate import Gate
    except ModuleNotFoundError as error:
        raise packages.missing(error) or error from error
    from segc.runtime.engine import load

    engines, at_once = {}, at_once or max(1, (os.cpu_count() or 2) // 2)
    for name, bundle in named.items():
        progress(f"loading {name}")
        engines[name] = load(bundle, threads=threads, callers=at_once, public_key=public_key, python=python)
    gate = Gate(at_once, queue, timeout)
    app = application(engines, gate, Limits(max_bytes, max_pixels, timeout))
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=int(timeout) + 1, server_header=False
    )
    with _port_errors(host, port):
        socket = config.bind_socket()
    with contextlib.closing(socket):
        socket.listen(config.backlog)  # whoever reads the address may call at once
        progress(f"serving {', '.join(engines)} at http://{host}:{socket.getsockname()[1]}; Ctrl-C ends it")
        asyncio.run(_run(uvicorn.Server(config), [socket]))
    return Served(tuple(engines), gate.admissions)


def _named(bundles: Sequence[str | Path]) -> dict[str, str | Path]:
    """The bundles by the names of their folders. Raises UsageError."""
    named = {Path(bundle).resolve().name: bundle for bundle in bundles}
    if not bundles:
        raise UsageError("there is no bundle to serve", code=Code.CONFLICTING_OPTIONS, so="name one or more")
    if len(named) < len(bundles):
        raise UsageError(
            "each bundle needs a name of its own", code=Code.CONFLICTING_OPTIONS,
            because="models are called as the folders of their bundles", so="rename one of the folders",
        )  # fmt: skip
    return named


async def _run(server: object, sockets: list[object]) -> None:
    """Serve until a signal asks for the end."""
    import uvicorn

    assert isinstance(server, uvicorn.Server)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, server.handle_exit, number, None)
    await server._serve(sockets)  # type: ignore[arg-type] # `serve` would raise the signal again at the end


@contextlib.contextmanager
def _port_errors(host: str, port: int) -> Iterator[None]:
    """uvicorn logs why it cannot bind, and exits."""
    try:
        yield
    except (OSError, SystemExit) as error:
        raise FileError(
            f"cannot listen at {host}:{port}", code=Code.NO_PORT,
            because=str(error) if isinstance(error, OSError) else "the address or the port cannot be used",
            so="choose another --port or --host; --port 0 takes a free one",
        ) from error  # fmt: skip
