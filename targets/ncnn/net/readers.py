"""Who makes and who reads each blob of a net."""

from __future__ import annotations

from segc.targets.ncnn.net.net import Blob, Layer, Net


class Readers:
    """Makers and readers as the net stands when this is made."""

    def __init__(self, net: Net) -> None:
        self._users = net.users()
        self._makers = net.producers()
        self._outputs = {id(blob) for blob in net.outputs}

    def maker(self, blob: Blob) -> Layer | None:
        """The layer that makes the blob."""
        return self._makers.get(id(blob))

    def made_by(self, blob: Blob, layer: Layer) -> None:
        """From now on `layer` makes the blob."""
        self._makers[id(blob)] = layer

    def alone(self, blob: Blob) -> bool:
        """Whether exactly one layer reads the blob, and nobody outside."""
        return len(self._users.get(id(blob), ())) == 1 and id(blob) not in self._outputs

    def only_user(self, blob: Blob) -> Layer | None:
        """That layer."""
        return self._users[id(blob)][0] if self.alone(blob) else None
