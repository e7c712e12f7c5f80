"""Checkpoints: read without running code, find the weights in the formats mmseg users have, load them strictly."""

from __future__ import annotations

import builtins
import contextlib
import pickle
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import CheckpointError, Code, FileError, MissingPackageError
from segc.frontend import dataset_meta
from segc.frontend.dataset_meta import NO_META, DatasetMeta

if TYPE_CHECKING:
    import torch
    from torch import nn

_SHOWN = 8  # keys listed per kind of mismatch
# Classes whose instances stand in the training state of real checkpoints. They are replaced by inert stand-ins, never
# imported: segc needs the tensors and the dataset's classes only.
_TRAINING_STATE = re.compile(r"(mmengine|mmcv|mmseg|mmpretrain|mmdet)\.")
# What else lies in the meta of checkpoints: values become inert, containers empty, and types of plain values stay.
_VALUES = re.compile(
    r"(pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|datetime\.(datetime|date|time|timedelta|timezone)"
    r"|argparse\.Namespace|types\.SimpleNamespace|uuid\.UUID|decimal\.Decimal|fractions\.Fraction)$"
)
_PLAIN = re.compile(r"(builtins|__builtin__)\.(list|dict|int|float|str|bool|tuple|frozenset)$")
_OLD_NAMES = {"__builtin__.long": "builtins.int", "__builtin__.unicode": "builtins.str"}
_PICKLES = 5  # that a file in the old format begins with: a number, the version, the system, the content, the keys
# Buffers of losses, which do not run: class weights and the like
_LOSS = re.compile(r"(^|\.)loss_?\w*\.")
_NUMPY = re.compile(r"numpy\.(_?core\.multiarray\.(_reconstruct|scalar)|ndarray|dtype|dtypes\.\w+DType)$")


@dataclass(frozen=True)
class Checkpoint:
    """state: parameter name -> tensor, prefixes removed. dataset: classes and palette from its meta."""

    path: Path
    state: dict[str, torch.Tensor]
    dataset: DatasetMeta = NO_META

    def record(self) -> dict[str, str]:
        """What the manifest says of it."""
        return {"name": self.path.name, "sha256": sha256_of_file(self.path)}


@dataclass
class Mismatch:
    """How a state dict differs from a model."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line a key, long lists cut."""
        found = []
        for kind, keys in (("missing", self.missing), ("unexpected", self.unexpected), ("shape", self.shapes)):
            found += [f"{kind}: {key}" for key in keys[:_SHOWN]]
            if len(keys) > _SHOWN:
                found.append(f"{kind}: ... and {len(keys) - _SHOWN} more")
        return found

    def notes(self) -> list[str]:
        """What to tell a user who allowed it."""
        return [f"--allow-mismatch: {line}" for line in self.lines()]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a .pth file with `weights_only=True`, or a .safetensors file, which holds nothing but tensors.

    Raises FileError when it cannot be read and CheckpointError when it is no checkpoint, holds code, or no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"no checkpoint at '{path}'", code=Code.NOT_FOUND, so="give the path of a .pth file")
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"checkpoint '{path}' is empty (0 bytes)", code=Code.CHECKPOINT_UNREADABLE, so="download or copy it again"
        )
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load(path)
    state = _without_prefix(_weights(content, path))
    return Checkpoint(path, state, _dataset(content))


def load_into(model: nn.Module, checkpoint: Checkpoint, *, allow_mismatch: bool = False) -> Mismatch:
    """Load the weights; raises CheckpointError naming every key unless `allow_mismatch`. Returns what differed."""
    expected = model.state_dict()
    mismatch = compare(expected, checkpoint.state)
    if mismatch.lines() and not allow_mismatch:
        prefix = _prefix_note(expected, checkpoint.state)
        raise CheckpointError(
            f"checkpoint '{checkpoint.path}' does not fit the model: {len(mismatch.missing)} keys missing, "
            f"{len(mismatch.unexpected)} unexpected, {len(mismatch.shapes)} of another shape",
            code=Code.CHECKPOINT_MISMATCH,
            because=[*prefix, *mismatch.lines()],
            so="rename the keys and save the checkpoint again"
            if prefix
            else "use the config this checkpoint was trained with, or --allow-mismatch to load what fits",
        )
    fitting = {k: v for k, v in checkpoint.state.items() if k in expected and v.shape == expected[k].shape}
    if not fitting:
        raise CheckpointError(
            f"no key of '{checkpoint.path}' fits the model",
            code=Code.CHECKPOINT_MISMATCH,
            because=[*_prefix_note(expected, checkpoint.state), *mismatch.lines()],
            so="use the config it was trained with",
        )
    try:
        model.load_state_dict(fitting, strict=False)
    except (RuntimeError, NotImplementedError) as error:  # quantized or sparse tensors, or some without storage
        raise CheckpointError(
            f"the weights of '{checkpoint.path}' cannot be copied into the model",
            code=Code.CHECKPOINT_MISMATCH,
            because=_first_line(error),
            so="save them as plain float tensors: {name: tensor.dequantize().float() for ...}",
        ) from error
    return mismatch


def compare(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> Mismatch:
    """Differences that matter: counters of BatchNorm, buffers of EMA and of losses do not."""
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked") and not _LOSS.search(k)]
    unexpected = [
        k
        for k in state
        if k not in expected
        and not k.startswith(("ema_", "data_preprocessor."))
        and not k.endswith("num_batches_tracked")
        and not _LOSS.search(k)
    ]
    shapes = [
        f"{k}: checkpoint {_shape(v)}, model {_shape(expected[k])}"
        for k, v in state.items()
        if k in expected and v.shape != expected[k].shape and not _LOSS.search(k)
    ]
    return Mismatch(
        [f"{k} {_shape(expected[k])}" for k in missing], [f"{k} {_shape(state[k])}" for k in unexpected], shapes
    )


def _prefix_note(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """A sentence where the keys differ by what they begin with."""
    for have, want, said in ((state, expected, "without"), (expected, state, "with")):
        tails = {key for key in want if "." in key}
        for key in list(have)[:_SHOWN]:
            at = [i + 1 for i, letter in enumerate(key) if letter == "."]
            for prefix in (key[:i] for i in at if key[i:] in tails):
                fit = sum(k.removeprefix(prefix) in want for k in have if k.startswith(prefix))
                if 2 * fit > len(have):
                    return [f"{fit} of {len(have)} keys would fit {said} the prefix '{prefix}'"]
    return []


def _load_safetensors(path: Path) -> object:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "a .safetensors file needs the package safetensors", code=Code.OPTIONAL_PACKAGE,
            so="pip install safetensors",
        ) from error  # fmt: skip
    try:
        return load_file(path)
    except Exception as error:  # safetensors has an error class of its own, and damaged headers raise others
        raise CheckpointError(
            f"'{path}' cannot be read as a checkpoint", code=Code.CHECKPOINT_UNREADABLE, because=_first_line(error),
            so="download or copy it again",
        ) from error  # fmt: skip


def _load(path: Path) -> object:
    import torch

    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint '{path}' is refused: it holds more than weights",
            code=Code.CHECKPOINT_UNSAFE,
            because=_first_line(error),
            so="nothing of it was executed; ask its author for a plain state_dict, or convert it where you trust it",
        ) from error
    except Exception as error:  # unpickling damaged bytes raises whatever the classes in them do
        raise CheckpointError(
            f"'{path}' cannot be read as a checkpoint",
            code=Code.CHECKPOINT_UNREADABLE,
            because=_first_line(error),
            so="download or copy it again",
        ) from error


def _stand_ins(path: Path) -> list[Any]:
    """Inert replacements for the globals of training state; everything else stays refused."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a zip archive; damage is found by _load
        names = _globals_of_old_format(path)
    found: list[Any] = []
    for name in names:
        if (made := _CONTAINERS.get(name)) is not None:
            found.append((made, name))
        elif _PLAIN.match(name):
            found.append((getattr(builtins, name.rpartition(".")[2]), name))
        elif _VALUES.match(name):
            found.append((type(name.rpartition(".")[2], (_Inert,), {}), name))
        if _NUMPY.match(name):
            found.append((_numpy_global(name), name))
        elif _TRAINING_STATE.match(name):
            found.append((type(name.rpartition(".")[2], (_Inert,), {}), name))
        elif name in ("builtins.getattr", "__builtin__.getattr") and any(_TRAINING_STATE.match(n) for n in names):
            found.append((_inert_attribute, name))
    if any(_NUMPY.match(name) for name in names):
        found += _dtypes()
    return found


def _globals_of_old_format(path: Path) -> list[str]:
    """The globals that the pickles of a file name, read without running them."""
    names: dict[str, None] = {}
    with path.open("rb") as file, contextlib.suppress(Exception):  # of damaged bytes, anything; _load says so
        for _ in range(_PICKLES):
            for op, argument, _ in pickletools.genops(file):
                if op.name == "GLOBAL":
                    name = ".".join(str(argument).split(" ", 1))
                    names[_OLD_NAMES.get(name, name).replace("__builtin__.", "builtins.")] = None
    return list(names)


class _Inert:
    """Takes any arguments and state, does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        return

    def __setstate__(self, _state: object) -> None:
        return


def _inert_attribute(*_args: object) -> None:
    """Stands for the `getattr` by which HistoryBuffer pickles references to its own methods."""


def _emptied_list(*_arguments: object) -> list[Any]:
    """Stands for a deque, to which the pickle then appends."""
    return []


def _emptied_dict(*_arguments: object) -> dict[Any, Any]:
    """Stands for a defaultdict, which the pickle then fills."""
    return {}


_CONTAINERS = {"collections.deque": _emptied_list, "collections.defaultdict": _emptied_dict}


def _dtypes() -> list[Any]:
    """NumPy's plain types: a pickled `numpy.dtype` builds one of them without naming it."""
    import numpy as np

    return [getattr(np.dtypes, name) for name in np.dtypes.__all__ if name not in ("ObjectDType", "VoidDType")]


def _numpy_global(name: str) -> Any:
    import numpy as np
    from numpy._core import multiarray

    last = name.rpartition(".")[2]
    if last in ("_reconstruct", "scalar"):
        return getattr(multiarray, last)
    return getattr(np.dtypes if name.startswith("numpy.dtypes.") else np, last)


def _weights(content: object, path: Path) -> dict[str, torch.Tensor]:
    """The first mapping of tensors: nested under the usual keys, or the content itself."""
    import torch

    if isinstance(content, Mapping):
        places: list[object] = [
            content.get(k) for k in ("state_dict", "ema_state_dict", "model", "state_dict_ema", "model_state", "module")
        ]
        for place in [*places, content]:
            if isinstance(place, Mapping):
                tensors = {str(k): v for k, v in place.items() if isinstance(v, torch.Tensor)}
                if tensors:
                    return tensors
    raise CheckpointError(
        f"checkpoint '{path}' holds no weights",
        code=Code.CHECKPOINT_UNREADABLE,
        because=f"it is a {type(content).__name__}"
        + (f" with the keys {', '.join(map(str, list(content)[:_SHOWN]))}" if isinstance(content, Mapping) else ""),
        so="segc looks for a state_dict, under 'state_dict', 'ema_state_dict', 'model' or 'module', or at the top",
    )


def _without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop `_orig_mod.` of torch.compile, `module.` of data parallel and EMA wrappers, and EMA's step counter."""
    if any("_orig_mod." in key for key in state):
        state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    wrapped = {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
    others = state.keys() - {f"module.{k}" for k in wrapped} - {"steps"}
    return wrapped if wrapped and not others else state  # a model may have a part called `module`


def _dataset(content: object) -> DatasetMeta:
    """Classes and palette from `meta.dataset_meta` (mmseg 1) or `meta.CLASSES` (before)."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return NO_META
    data = meta.get("dataset_meta")
    data = data if isinstance(data, Mapping) else meta
    lowered = {str(k).lower(): v for k, v in data.items()}
    return dataset_meta.read(lowered.get("classes"), lowered.get("palette"), "the checkpoint")


def _shape(tensor: torch.Tensor) -> str:
    return str(tuple(tensor.shape))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    match = re.search(r"Unsupported (?:global|class): GLOBAL (\S+)", text) or re.search(
        r"GLOBAL (\S+)|but got <class '([^']+)'>", text
    )
    if match:
        return f"it asks for {next(filter(None, match.groups()))}, which weights do not need"
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
