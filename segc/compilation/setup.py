"""The input of every step of a compile: the request with its configured target, and a journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segc import targets
from segc.bundle.report import MemorySample
from segc.bundle.status import Status
from segc.compilation import shape_range
from segc.compilation.cache import CompileCache, NoCache
from segc.compilation.request import Request, require_sane
from segc.compilation.search_state import SearchState
from segc.compilation.settings import settings_of
from segc.errors import Code, MissingPackageError
from segc.files import interrupts
from segc.frontend.model import ModelInfo, Notes
from segc.frontend.named import stem
from segc.isolation.memory import peak_memory_mb, resident_memory_mb
from segc.parity.limits import limits_of
from segc.pipeline import hooks

if TYPE_CHECKING:
    from segc.compilation.evidence import Recorder

Progress = Callable[[str], None]

_log = logging.getLogger(__name__)
_MARGIN = 0.001  # share of pixels: engine and reference round differently


@dataclass(frozen=True)
class Setup:
    """A checked request. runtime: the version of the target's runtime. status: whether its engines run on this machine.

    journal: records times and notes of all steps.
    """

    request: Request
    target: targets.Target
    settings: targets.Settings
    runtime: str
    status: Status
    journal: Journal

    @property
    def out(self) -> Path:
        """The bundle's folder: the requested one, or NAME-TARGET in the current folder."""
        return destination(self.request)


def destination(request: Request) -> Path:
    """The bundle's folder: the requested one, or NAME-TARGET in the current folder."""
    return Path(f"{stem(request.source)}-{request.target}" if request.out is None else request.out)


class Journal:
    """Records a compile: announces and times each step, and collects notes for the user.

    progress: called with a sentence before each step. cache: shared by several compiles of one source. seconds: time of
    each step. passes: time of each pass. masks: milliseconds of each placement of the mask, if they were measured.
    memory: of this process where steps begin and end. evidence: collects what the page of the bundle shows, if any.
    """

    def __init__(self, progress: Progress = lambda _: None, cache: CompileCache | None = None) -> None:
        self.notes = Notes()
        self.cache = cache or NoCache()
        self.seconds: dict[str, float] = {}
        self.passes = hooks.Timing()
        self.masks: dict[str, float] | None = None
        self.memory: list[MemorySample] = []
        self.evidence: Recorder | None = None
        self._progress = progress
        self._began = time.perf_counter()

    def announce(self, said: str) -> None:
        """Tell the user what a step has found so far."""
        interrupts.check()
        self._progress(said)

    @contextmanager
    def step(self, name: str, said: str = "") -> Iterator[None]:
        """Announce the text `said`, and add the time of the block to that of the step `name`."""
        if said:
            self._progress(said)
        interrupts.check()
        self._sample(name)
        start = time.perf_counter()
        yield
        self._sample(name)
        interrupts.check()
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        _log.info("step %s: %.3f s", name, seconds)

    def _sample(self, step: str) -> None:
        seconds = round(time.perf_counter() - self._began, 3)
        resident = resident_memory_mb()
        if resident:
            self.memory.append(MemorySample(seconds=seconds, step=step, resident_mb=resident, peak_mb=peak_memory_mb()))


def set_up(request: Request, journal: Journal | None = None) -> Setup:
    """Check the request against its target, before anything is opened. Raises UsageError, MissingPackageError."""
    plain = targets.get(request.target)
    settings = settings_of(plain, request.precision, request.options, request.shape_range)
    target = plain.configure(plain, settings)
    require_sane(request, target)
    runtime = runtime_version(target)
    status = Status.of(target.cannot_run(settings), target.status_when_not_run)
    _log.info("compiling %s for %s %s", request.source, target.name, runtime)
    return Setup(request, target, settings, runtime, status, journal or Journal())


def settled(setup: Setup, info: ModelInfo, shape: tuple[int, int]) -> Setup:
    """The setup completed from the source: the format of its images, and the sizes of a dynamic engine."""
    request, sizes = setup.request, setup.settings.shape_range
    if request.dynamic and (sizes is not None or setup.target.needs_shape_range):
        sizes = shape_range.fitted(sizes or shape_range.usual(info, shape), info)
    images = targets.Images(info.mean, info.std, info.channel_order)
    settings = replace(setup.settings, shape_range=sizes, images=images, threads=request.threads)
    plain = targets.get(request.target)
    if request.calibration is not None:
        with setup.journal.step("calibration", "reading the images to calibrate with"):
            settings = replace(settings, calibration=_calibration(request, plain, info, shape, setup.journal))
    return replace(setup, settings=settings, target=plain.configure(plain, settings))


def _calibration(
    request: Request, target: targets.Target, info: ModelInfo, shape: tuple[int, int], journal: Journal
) -> targets.Calibration:
    """The images of the request, and a limit slightly above that of the parity gate, whose reference is PyTorch."""
    from segc.compilation.calibration import pictures

    found = pictures(request, info, shape)
    limit = limits_of(target.limits, request.precision, request.max_error, request.min_agreement).agreement
    images, held_out = (tuple(x for _, x in named) for named in (found.images, found.held_out))
    state = None if request.state is None else SearchState(Path(request.state))
    return targets.Calibration(
        images, held_out, limit + _MARGIN, found.labels, request.max_drop, state, journal.announce
    )


def runtime_version(target: targets.Target) -> str:
    """The installed version or build of the target's runtime, "not packaged" if no package could have it.

    Raises MissingPackageError with the install command.
    """
    from importlib.metadata import PackageNotFoundError, version

    if target.package is None:
        return target.runtime.build() or "not packaged"
    try:
        return version(target.package.distribution)
    except PackageNotFoundError as error:
        raise MissingPackageError(
            f"target '{target.name}' needs the package '{target.package.distribution}'", code=Code.RUNTIME_MISSING,
            because="it is not installed", so=target.package.install,
        ) from error  # fmt: skip
