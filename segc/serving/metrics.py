"""Prometheus metrics of the server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from segc.serving.gate import Gate


class Metrics:
    """Counts and times, in a registry of their own, so that two servers in a process do not mix theirs."""

    def __init__(self, gate: Gate) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "segc_requests", "Requests by model and status.", ["model", "status"], registry=registry
        )
        self.seconds = Histogram("segc_seconds", "From a request to its answer.", ["model"], registry=registry)
        self.bytes = Counter("segc_answer_bytes", "Bytes of answers.", ["model"], registry=registry)
        inside = Gauge("segc_requests_inside", "Requests that are worked on or wait.", registry=registry)
        inside.set_function(lambda: gate.inside)

    def text(self) -> bytes:
        """In the text format."""
        return generate_latest(self._registry)
