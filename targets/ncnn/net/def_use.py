"""Def-use information of a net: which layer computes each blob, and which layers read it."""

from __future__ import annotations

from segc.targets.ncnn.net.net import Blob, Layer, Net


class DefUse:
    """Producers and readers of all blobs, as of the moment this is created; `set_producer` keeps it up to date."""

    def __init__(self, net: Net) -> None:
        self._readers = net.readers()
        self._producers = net.producers()
        self._outputs = {id(blob) for blob in net.outputs}

    def producer(self, blob: Blob) -> Layer | None:
        """The layer that computes the blob."""
        return self._producers.get(id(blob))

    def set_producer(self, blob: Blob, layer: Layer) -> None:
        """Record that `layer` now computes the blob."""
        self._producers[id(blob)] = layer

    def has_one_reader(self, blob: Blob) -> bool:
        """Whether exactly one layer reads the blob and it is no output of the net."""
        return len(self._readers.get(id(blob), ())) == 1 and id(blob) not in self._outputs

    def only_reader(self, blob: Blob) -> Layer | None:
        """The layer that reads the blob, where `has_one_reader`; None otherwise."""
        return self._readers[id(blob)][0] if self.has_one_reader(blob) else None
