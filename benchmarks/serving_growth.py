"""Whether `segc serve` grows under load, and whether every answer is the mask or a clean refusal.

    PYTHONPATH=. python benchmarks/serving_growth.py BUNDLE IMAGE [--minutes 60] [--clients 8] [--queue 2]

More clients than places post one image; some send no image, some close before the answer. Samples the memory of the
server's process. Ends with 1 if an answer was another mask, a status was none of 200, 400, 429 and 503, or the median
of the last quarter of the samples is more than 5 % and 8 MB above that of the second quarter.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil

from tests.helpers.servers import served


class Clients:
    """What all clients saw."""

    def __init__(self, address: str, content: bytes, end: float) -> None:
        self.address, self.content, self.end = address, content, end
        self.statuses: Counter[int] = Counter()
        self.masks: set[str] = set()
        self._lock = threading.Lock()

    def run(self, number: int) -> None:
        """Post until the end. Every 50th request is no image, every 51st is given up."""
        count = 0
        with httpx.Client(timeout=60) as session:
            while time.monotonic() < self.end:
                count += 1
                if count % 51 == 0:
                    with contextlib.suppress(httpx.TimeoutException):
                        httpx.post(f"{self.address}/segment", content=self.content, timeout=0.01)
                    continue
                answer = session.post(
                    f"{self.address}/segment", content=b"no image" if count % 50 == 0 else self.content
                )
                with self._lock:
                    self.statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        self.masks.add(hashlib.sha256(answer.content).hexdigest())
                if answer.status_code == 429:
                    time.sleep(0.01 * (number + 1))


def main() -> None:
    """Load the server, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("image", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queue", type=int, default=2)
    args = parser.parse_args()
    with served(args.bundle, "--queue", args.queue) as (process, address):
        clients = Clients(address, args.image.read_bytes(), time.monotonic() + 60 * args.minutes)
        threads = [threading.Thread(target=clients.run, args=(number,)) for number in range(args.clients)]
        for thread in threads:
            thread.start()
        memory, server = [], psutil.Process(process.pid)
        while time.monotonic() < clients.end:
            memory.append(server.memory_info().rss / 2**20)
            time.sleep(min(5.0, args.minutes))
        for thread in threads:
            thread.join()
    quarter = max(1, len(memory) // 4)
    before, after = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
    print(f"{sum(clients.statuses.values())} answers: {dict(clients.statuses)}; {len(clients.masks)} different masks")
    print(f"memory: {before:.1f} MB in the second quarter, {after:.1f} MB in the last, {max(memory):.1f} MB at most")
    good = len(clients.masks) == 1 and set(clients.statuses) <= {200, 400, 429, 503}
    if not good or after > before * 1.05 + 8:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
