"""Requests a second and bytes of `segc serve`, beside a server of the same kind that answers with logits.

    python benchmarks/serving.py MASK_BUNDLE LOGITS_BUNDLE IMAGE [--clients 4] [--seconds 10] [--rounds 5] [--argmax]

The alternative is what model servers do by default: it preprocesses the image, runs the engine of LOGITS_BUNDLE, and
answers with float32 logits (classes, H, W). With --argmax its clients make class numbers of them, as they have to for a
mask. Both get the same image file from the same clients, in turns. Prints the medians of all rounds and their ratios.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np

import segc
from segc.bundle.store import read_bundle


def logits_server(bundle: str, port: int) -> None:
    """Serve logits."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from segc.runtime.preprocessing import preprocess

    engine = segc.load(bundle)

    def answer(content: bytes) -> bytes:
        x, _ = preprocess(engine.decode(content), engine.manifest.preprocessing)
        return np.ascontiguousarray(engine.run(x)["logits"]).tobytes()

    async def segment(request: Request) -> Response:
        return Response(await run_in_threadpool(answer, await request.body()), media_type="application/octet-stream")

    app = Starlette(routes=[Route("/segment", segment, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def started(words: list[str], address: str | None) -> Iterator[str]:
    """A server, and its address, which it prints if it is None."""
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while address is None:
            line = process.stderr.readline()
            address = found.group() if (found := re.search(r"http://\S+?(?=;)", line)) else None
            assert line, "the server ended"
        yield address
    finally:
        process.terminate()
        process.wait()


def load(
    address: str, content: bytes, clients: int, seconds: float, then: Callable[[bytes], object] = bytes
) -> tuple[float, int]:
    """Requests a second that were answered, and the bytes of one answer. then: what a client does with it."""
    begin = time.perf_counter()
    end = begin + seconds

    def client(_: int) -> tuple[int, int]:
        count = size = 0
        with httpx.Client(timeout=120) as session:
            while time.perf_counter() < end:
                answer = session.post(f"{address}/segment", content=content)
                answer.raise_for_status()
                then(answer.content)
                count, size = count + 1, len(answer.content)
        return count, size

    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(client, range(clients)))
    return sum(count for count, _ in done) / (time.perf_counter() - begin), done[0][1]


def class_numbers(channels: int, height: int, width: int) -> Callable[[bytes], object]:
    """What makes a mask of the bytes of logits."""

    def argmax(content: bytes) -> object:
        return np.frombuffer(content, np.float32).reshape(channels, height, width).argmax(axis=0)

    return argmax


def ready(address: str, content: bytes) -> None:
    """Wait for the first answer."""
    for _ in range(240):
        try:
            httpx.post(f"{address}/segment", content=content, timeout=120).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.25)
    raise SystemExit(f"{address} does not answer")


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mask_bundle")
    parser.add_argument("logits_bundle")
    parser.add_argument("image", type=Path)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=18080, help="of the server of logits")
    parser.add_argument("--argmax", action="store_true", help="clients make class numbers of logits")
    parser.add_argument("--serve-logits", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_logits:
        logits_server(args.logits_bundle, args.port)
        return
    content = args.image.read_bytes()
    made = read_bundle(args.logits_bundle)
    _, _, height, width = made.input.shape
    assert height and width, "the engine of the logits has one size"
    argmax = class_numbers(made.output.channels, height, width)
    plain = [
        __file__,
        args.mask_bundle,
        args.logits_bundle,
        str(args.image),
        "--serve-logits",
        "--port",
        str(args.port),
    ]
    ours = ["-m", "segc", "serve", args.mask_bundle, "--port", "0", "--queue", str(args.clients)]
    with ExitStack() as stack:
        places = {
            "masks": stack.enter_context(started(ours, None)),
            "logits": stack.enter_context(started(plain, f"http://127.0.0.1:{args.port}")),
        }
        for address in places.values():
            ready(address, content)
        rates: dict[str, list[float]] = {name: [] for name in places}
        sizes: dict[str, int] = {}
        for _ in range(args.rounds):
            for name, address in places.items():
                then = argmax if args.argmax and name == "logits" else bytes
                rate, sizes[name] = load(address, content, args.clients, args.seconds, then)
                rates[name].append(rate)
    for name in places:
        print(f"{name}\t{statistics.median(rates[name]):.2f} requests/s\t{sizes[name]} bytes")
    ratios = [masks / logits for masks, logits in zip(rates["masks"], rates["logits"], strict=True)]
    print(f"ratio\t{statistics.median(ratios):.2f}x requests\t1/{sizes['logits'] / sizes['masks']:.0f} of the bytes")


if __name__ == "__main__":
    main()
