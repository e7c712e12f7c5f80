"""Find the logits of a net that gives a mask, before their last resize: segc's runtime extracts them for `segment`.

ncnn computes only what the blob that is asked for needs, so the net stays as it is.
"""

from __future__ import annotations

from segc.targets.ncnn.net.net import Blob, Layer, Net

_BILINEAR, _MAX = 2, 4


def small_logits(net: Net) -> tuple[Blob, bool | None] | None:
    """The blob, and whether its resize to the input's size aligns corners; None there: it has that size.

    None if the mask depends on the image by more than this blob. ArgMax is two maxima (`legalize-argmax`); the first
    is that of the logits.
    """
    if len(net.outputs) != 1:
        return None
    producers = net.producers()
    maxima = [layer for layer in net.layers if layer.type == "Reduction" and layer.int_param("operation", 0) == _MAX]
    resizes = [layer for layer in net.layers if layer.type == "Interp"]
    if len(maxima) >= 2:
        logits = _unsplit(maxima[-2].inputs[0], producers)
        if len(logits.shape) != 3 or not _decides(net, logits, producers):
            return None
        last = producers[id(logits)]
        if last not in resizes:
            return logits, None
    elif resizes:  # one channel and a threshold
        last = resizes[-1]
        if not _decides(net, last.outputs[0], producers):
            return None
    else:
        return None
    if last.int_param("resize_type", 0) != _BILINEAR or len(last.inputs[0].shape) != 3:
        return None
    return last.inputs[0], bool(last.int_param("align_corner", 0))


def _unsplit(blob: Blob, producers: dict[int, Layer]) -> Blob:
    """The blob that this one is a copy of."""
    while producers[id(blob)].type == "Split":
        blob = producers[id(blob)].inputs[0]
    return blob


def _decides(net: Net, blob: Blob, producers: dict[int, Layer]) -> bool:
    """Whether every way from an input to the output leads through `blob`."""
    pending, seen = [net.outputs[0]], set[int]()
    while pending:
        if (at := pending.pop()) is blob or id(at) in seen:
            continue
        seen.add(id(at))
        layer = producers[id(at)]
        if layer.type == "Input":
            return False
        pending += layer.inputs
    return True
