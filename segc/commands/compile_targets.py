"""`segc.compile_targets`: one source for several targets. It is opened and traced once."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from segc import targets as registry
from segc.commands.compile import Bundle, compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.guarded import guarded_libraries
from segc.compilation.request import Request, open_shared
from segc.compilation.setup import Progress
from segc.errors import Code, SegcError, UsageError
from segc.frontend.named import stem
from segc.frontend.source import is_onnx
from segc.suggestions import did_you_mean
from segc.targets.option import typed


@dataclass(frozen=True)
class Attempt:
    """The result for one target: its bundle, or the error that says why there is none."""

    target: str
    bundle: Bundle | None
    error: SegcError | None


def compile_targets(
    request: Request, targets: Sequence[str], *, cache: bool = False, progress: Progress = lambda _: None
) -> list[Attempt]:
    """Compile the source of `request` for each of the targets, in this order. A target that refuses stops no other.

    request: its own target is ignored. Its options go to the targets that have them, its `out` is the start of the
    folders' names: OUT-TARGET. cache: as for `compile`. progress: called with a sentence before each step.
    Raises SegcError if nothing can be compiled for any target: the source cannot be opened, a target or an option is
    unknown, or no target is named.
    """
    requests = _requests(request, targets)
    shared = CompileCache()
    progress("opening the source")
    if is_onnx(request.source):
        with guarded_libraries(request.source, request.memory_limit, request.time_limit):
            open_shared(request, shared)
    elif not cache:  # otherwise a kept trace may make it needless
        open_shared(request, shared)
    attempts = []
    for each in requests:
        try:
            bundle = compile_request(each, _naming(each.target, progress), shared, keep=cache)
            attempts.append(Attempt(each.target, bundle, None))
        except SegcError as error:
            attempts.append(Attempt(each.target, None, error))
        gc.collect()  # a graph has reference cycles, which keep all weights in memory
    return attempts


def _naming(target: str, progress: Progress) -> Progress:
    return lambda text: progress(f"{target}: {text}")


def _requests(request: Request, names: Sequence[str]) -> list[Request]:
    """One request for each target, with the options that it has. Raises UsageError."""
    names = list(dict.fromkeys(names))
    if not names:
        raise UsageError("no target is named", code=Code.UNKNOWN_NAME, so="segc targets lists them")
    offered = {name: {option.name for option in registry.get(name).options} for name in names}
    _require_known(request.options, offered)
    start = stem(request.source) if request.out is None else str(request.out)
    return [
        replace(
            request,
            target=name,
            out=f"{start}-{name}",
            options={key: value for key, value in request.options.items() if key in offered[name]},
        )
        for name in names
    ]


def _require_known(options: Mapping[str, str], offered: Mapping[str, set[str]]) -> None:
    known = sorted(set[str]().union(*offered.values()))
    for name in options:
        if name not in known:
            raise UsageError(
                f"none of the targets {', '.join(offered)} has an option '{name}'", code=Code.UNKNOWN_OPTION,
                because=f"their options are {', '.join(known)}", so=did_you_mean(name, known) or f"omit {typed(name)}",
            )  # fmt: skip
