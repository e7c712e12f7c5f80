"""`--precision int8` for targets whose runtimes compute QuantizeLinear and DequantizeLinear in integers."""

from __future__ import annotations

from dataclasses import replace

from segc.passes.precision.quantize_measured import QuantizeMeasured
from segc.passes.support.integers import Form
from segc.targets.options.winograd import without_winograd
from segc.targets.protocol import Settings
from segc.targets.target import Target

SHARE_FOR_THE_SEARCH = 0.9  # of the points of mIoU that may be lost; the rest is for what the engine rounds otherwise


def with_int8(target: Target, settings: Settings, form: Form) -> Target:
    """The target with a last pass that quantizes the graph, where the settings ask for it. form: see `Form`.

    WinogradConv is dropped then: runtimes have no integer kernels for what it makes of a convolution.
    """
    if settings.precision != "int8":
        return target
    given = settings.calibration
    if given is None:  # nothing is known of the source yet
        step = QuantizeMeasured(form=form)
    else:
        drop = None if given.max_drop is None else SHARE_FOR_THE_SEARCH * given.max_drop
        step = QuantizeMeasured(
            given.images, given.held_out, given.agreement, form, given.labels, drop, given.memory, given.say
        )
    target = without_winograd(target)
    return replace(target, legalize=(*target.legalize, step))
