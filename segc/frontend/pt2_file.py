"""`.pt2` files: programs of torch.export, with their weights. TorchScript files are told from others, and refused."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import CheckpointError, Code, MissingPackageError, SourceError
from segc.frontend import onnx_metadata
from segc.frontend.given import Given
from segc.frontend.model import ModelInfo, Source
from segc.frontend.model_inputs import more_inputs
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

_PICKLED = ("custom_obj_", "opaque_obj_")  # files of an archive that only running code can read
_DEFAULT = 512  # of a side that the program leaves open
_EXTRA, _LARGEST = "extra", 1 << 24  # folder of the texts that torch.export.save took; bytes of one that is read
_NO_PREPROCESSING = (
    "a program of torch.export says nothing about preprocessing: images are fed as RGB values 0 to 255, unscaled"
)
_NO_OWN_WAY = (
    "masks of files are not compared: a program of torch.export has no way of its own from a file to a mask; a Python"
    ' file that loads it can name one in meta["predict"]'
)


def is_torchscript(path: Path) -> bool:
    """Whether PyTorch's jit.save wrote the file: a zip archive with a program beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [name.split("/", 1)[-1] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return False
    return "constants.pkl" in parts and any(part.startswith("code/") for part in parts)


def refuse_torchscript(path: Path) -> None:
    """Refuse a TorchScript file, whatever its name. Raises SourceError."""
    if path.is_file() and is_torchscript(path):
        raise SourceError(
            f"'{path}' is a TorchScript file", code=Code.TORCHSCRIPT,
            because="PyTorch's jit.save wrote it, and torch.export does not trace TorchScript",
            so="give the Python file that builds the model, or export the model it was made from:"
            " torch.export.save(torch.export.export(model, (image,)), 'model.pt2')",
        )  # fmt: skip


def open_pt2(path: Path, given: Given | None, channels: int | None) -> Source:
    """Load the program. Its height and width are fixed where torch.export made them so.

    Nothing pickled but tensors is read. Raises SourceError, CheckpointError.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError(
            "PyTorch is needed to trace a model", code=Code.FRONTEND_MISSING, so="pip install 'segc[torchvision]'"
        )
    from segc.frontend.logits_model import PlainLogits
    from segc.frontend.torch_tail import NARROW, Asked

    refuse_torchscript(path)
    given, notes = given or Given(), []
    program = _loaded(path)
    shape = _image_of(program, path)
    module = settled(program.module())
    if narrow := sorted({str(t.dtype)[6:] for t in module.state_dict().values() if t.dtype in NARROW}):
        notes.append(
            f"the program is in {' and '.join(narrow)}: the engine, and what it is compared with, compute the same in"
            " float32"
        )
        module.float()
    if channels not in (None, shape[1]):
        raise SourceError(
            f"the program of '{path}' takes {shape[1]} channels, not {channels}", code=Code.UNKNOWN_SOURCE,
            so="omit --channels",
        )  # fmt: skip
    fixed = tuple(side if isinstance(side, int) else None for side in shape[2:])
    info = ModelInfo(
        kind="pt2", name=path.stem, sha256=sha256_of_file(path), in_channels=shape[1], fixed=(fixed[0], fixed[1]),
        shape=(fixed[0] or _DEFAULT, fixed[1] or _DEFAULT), batch=shape[0] if isinstance(shape[0], int) else 1,
        mean=(0.0,) * shape[1], std=(1.0,) * shape[1],
    )  # fmt: skip
    metadata = onnx_metadata.described(_texts(path), path)
    described = metadata.applied(info, free=fixed == (None, None))
    info = given.applied(described)
    if metadata.by:
        notes.append(metadata.note(described))
    elif given.mean is None and given.std is None and given.scale is None:
        notes.append(_NO_PREPROCESSING)
    asked = Asked(given.output_name, given.output_values, len(info.classes))
    return Source(info, PlainLogits(module, asked).eval(), notes=(*notes, _NO_OWN_WAY))


def _texts(path: Path) -> dict[str, str]:
    """The texts that `torch.export.save(..., extra_files=)` put into the file, by name."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            parts = item.filename.split("/", 2)
            if len(parts) == 3 and parts[1] == _EXTRA and item.file_size <= _LARGEST:
                found[parts[2]] = archive.read(item).decode(errors="replace")
    return found


def settled(model: nn.Module) -> nn.Module:
    """The model, whose exported programs, also deep inside it, bear `eval`: they raise where it is called.

    Such a program is neither in training nor in evaluation; torch.export took it as it was.
    """
    from torch import fx, nn

    for part in model.modules():
        if isinstance(part, fx.GraphModule) and "train" in vars(part):
            part.__dict__.update(train=MethodType(nn.Module.train, part), eval=MethodType(nn.Module.eval, part))
    return model


def _loaded(path: Path) -> torch.export.ExportedProgram:
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rsplit("/", 1)[-1] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error
    if objects := [name for name in names if name.startswith(_PICKLED)]:
        raise CheckpointError(
            f"'{path}' is refused: it holds more than a program and tensors", code=Code.CHECKPOINT_UNSAFE,
            because=f"reading {', '.join(objects[:3])} would run code", so="export the model without such objects",
        )  # fmt: skip
    try:
        with quiet(), _tensors_only():
            return torch.export.load(path)
    except Exception as error:  # of a damaged file, anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"'{path}' cannot be read as a program of torch.export", code=Code.PYTHON_FILE,
        because=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
        so="export it again with this version of PyTorch: torch.export.save(torch.export.export(model, (image,)), ...)",
    )  # fmt: skip


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch.export.load asks torch.load for pickled objects where tensors fail; inside, it gets tensors or nothing."""
    import torch

    plain = torch.load

    def load(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **{**kwargs, "weights_only": True})

    torch.load = load
    try:
        yield
    finally:
        torch.load = plain


def _image_of(program: torch.export.ExportedProgram, path: Path) -> tuple[Any, ...]:
    """The shape (N, C, H, W) of the one input; a side that may change is no int. Raises SourceError."""
    import torch

    wanted = set(program.graph_signature.user_inputs)
    inputs = {
        node.name: value
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in wanted and isinstance(value := node.meta.get("val"), torch.Tensor)
    }
    images = {name: value for name, value in inputs.items() if value.ndim == 4}
    if len(images) != 1 or not isinstance(next(iter(images.values())).shape[1], int):
        raise SourceError(
            f"the program of '{path}' takes no image", code=Code.NOT_SEGMENTATION,
            because=f"its inputs are {', '.join(f'{n} {tuple(v.shape)}' for n, v in inputs.items()) or 'none'}",
            so="export a model of one image (N, C, H, W)",
        )  # fmt: skip
    if others := [name for name in inputs if name not in images]:
        raise more_inputs(path.stem, others)
    return tuple(next(iter(images.values())).shape)
