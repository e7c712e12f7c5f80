"""The settings of an engine: the user's options, checked against those of the target."""

from __future__ import annotations

from collections.abc import Mapping

from segc.errors import Code, UsageError
from segc.suggestions import did_you_mean
from segc.targets.flags import FLAGS
from segc.targets.option import typed
from segc.targets.protocol import Settings, ShapeRange
from segc.targets.target import Target

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def settings_of(
    target: Target, precision: str, options: Mapping[str, str], shape_range: ShapeRange | None = None
) -> Settings:
    """The settings, with the target's defaults for options not given. Raises UsageError for unknown ones."""
    if precision not in PRECISIONS:
        raise UsageError(
            f"there is no precision '{precision}'",
            code=Code.UNKNOWN_CHOICE,
            because=f"segc knows {', '.join(PRECISIONS)}",
            so=did_you_mean(precision, PRECISIONS) or f"--precision {target.precisions[0]}",
        )
    if precision not in target.precisions:
        offers = f"it offers {' and '.join(target.precisions)}"
        raise UsageError(
            f"{target.name} does not offer {precision}", code=Code.UNSUPPORTED_BY_TARGET,
            because=target.no_precisions.get(precision, offers),
            so=f"--precision {' or '.join(target.precisions)}",
        )  # fmt: skip
    known = {option.name: option for option in target.options}
    for name, value in options.items():
        if name not in known:
            offered = f"its options are {', '.join(known)}" if known else "it has none"
            raise UsageError(
                f"{target.name} has no option '{name}'",
                code=Code.UNKNOWN_OPTION,
                because=offered,
                so=did_you_mean(name, known) or f"omit {_typed(name)}",
            )
        if value not in (option := known[name]).choices:
            typed = [option.typed(choice) for choice in option.choices]
            raise UsageError(
                f"option '{name}' of {target.name} takes {' or '.join(option.choices)}, not '{value}'",
                code=Code.UNKNOWN_CHOICE,
                so=f"{option.typed()}, or omit it" if option.is_switch else " or ".join(typed),
            )
    filled = {name: options.get(name, option.default) for name, option in known.items()}
    return Settings(precision, shape_range, filled)


def _typed(name: str) -> str:
    """An option, possibly of another target, as users type it."""
    known = {option.name: option for _, option in FLAGS}
    return known[name].typed() if name in known else typed(name)
