"""SOURCE to a model: an mmseg config or zoo name, a Python, ONNX or .pt2 file, or a model of another library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segc.bundle.manifest import NAME
from segc.errors import Code, SourceError
from segc.files.names import IMAGE_EXTENSIONS
from segc.frontend import named
from segc.frontend.given import Given, refuse_for_configs
from segc.frontend.mmseg_env import config_root
from segc.frontend.model import Source
from segc.suggestions import closest

_NO_SOURCE = (".pth", ".pt", ".ckpt", ".safetensors", ".engine", ".xml")


def open_source(
    source: str | Path,
    *,
    checkpoint: str | Path | None = None,
    allow_mismatch: bool = False,
    mode: str | None = None,
    channels: int | None = None,
    skipped: tuple[str, ...] = (),
    given: Given | None = None,
) -> Source:
    """Load SOURCE. channels: of its images, where it does not say. skipped: steps of a test pipeline to leave out.

    Raises SourceError, CheckpointError, FileError or MissingPackageError, each saying what to do.
    """
    path = Path(source)
    if (of_library := named.split(source)) is not None:
        kind, name = of_library
        more = {"mode": mode} if kind == "hf" else {}
        return _library(kind)(
            name, checkpoint=checkpoint, allow_mismatch=allow_mismatch, given=given, channels=channels, **more
        )
    if is_onnx(source):
        from segc.frontend.onnx_file import open_onnx

        if checkpoint is not None:
            raise SourceError(
                "an ONNX file holds its own weights",
                code=Code.ONNX_WITH_CHECKPOINT,
                because=f"--checkpoint {checkpoint} was given too",
                so="omit --checkpoint",
            )
        return open_onnx(path, given, channels)
    if path.suffix == ".pt2" and path.is_file():
        return _program(path, checkpoint, given, channels)
    config = _config_path(str(source))
    if is_mmseg_config(config):
        from segc.frontend.mmseg_config import open_config

        if given is not None:
            refuse_for_configs(given)
        return open_config(
            config, checkpoint=checkpoint, allow_mismatch=allow_mismatch, mode=mode, channels=channels, skipped=skipped
        )
    from segc.frontend.python_file import open_python

    return open_python(config, checkpoint=checkpoint, allow_mismatch=allow_mismatch, given=given, channels=channels)


def _program(path: Path, checkpoint: str | Path | None, given: Given | None, channels: int | None) -> Source:
    from segc.frontend.pt2_file import open_pt2

    if checkpoint is not None:
        raise SourceError(
            "a .pt2 file holds its own weights", code=Code.ONNX_WITH_CHECKPOINT,
            because=f"--checkpoint {checkpoint} was given too", so="omit --checkpoint",
        )  # fmt: skip
    return open_pt2(path, given, channels)


def _library(kind: str) -> Callable[..., Source]:
    """The function that opens a source `kind:NAME`."""
    if kind == "torchvision":
        from segc.frontend.torchvision_source import open_torchvision

        return open_torchvision
    if kind == "hf":
        from segc.frontend.hf_source import open_hf

        return open_hf
    from segc.frontend.smp_source import open_smp

    return open_smp


def is_onnx(source: str | Path) -> bool:
    """Whether a SOURCE is an ONNX file, by its name."""
    return Path(source).suffix == ".onnx"


def is_mmseg_config(path: Path) -> bool:
    """Whether a Python file is an mmengine config rather than a program: decided from its syntax, not by running it.

    A config assigns plain data to `_base_` or `model`; a program that defines `model` builds a module by a call.
    """
    import ast

    if path.suffix in (".json", ".yaml", ".yml"):
        return True
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), path.name)
    except (SyntaxError, ValueError) as error:
        raise SourceError(
            f"'{path}' is not valid Python", code=Code.PYTHON_FILE, because=str(error), so="correct the file"
        ) from error
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read", code=Code.PYTHON_FILE, because=str(error)) from error
    for node in tree.body:
        if isinstance(node, ast.With):  # mmengine's new style: with read_base(): from ... import *
            return any(getattr(getattr(i.context_expr, "func", None), "id", "") == "read_base" for i in node.items)
        if isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "_base_" in names:
                return True
            if "model" in names:
                call = node.value.func if isinstance(node.value, ast.Call) else None
                return isinstance(node.value, ast.Dict) or getattr(call, "id", "") == "dict"
    return False


def zoo_names() -> dict[str, Path]:
    """Config name -> file, for every config of the installed mmseg's zoo."""
    root = config_root()
    if root is None:
        return {}
    return {p.stem: p for p in sorted(root.glob("*/*.py")) if p.parent.name != "_base_"}


def _config_path(source: str) -> Path:
    from segc.frontend.pt2_file import refuse_torchscript

    path = Path(source)
    refuse_torchscript(path)
    if path.suffix in _NO_SOURCE:
        raise SourceError(
            f"'{source}' is not a model source",
            code=Code.UNKNOWN_SOURCE,
            because="it holds weights or a built engine, not a model to trace",
            so="give the config or Python file, and the weights with --checkpoint",
        )
    if path.is_file() and path.suffix.lower() in IMAGE_EXTENSIONS:
        raise SourceError(
            f"'{source}' is an image, not a model source", code=Code.UNKNOWN_SOURCE,
            so="give the model; images go to segc run, with a bundle",
        )  # fmt: skip
    if path.is_file():
        return path
    if (path / NAME).is_file():
        raise SourceError(
            f"'{source}' is a bundle: it is compiled already", code=Code.UNKNOWN_SOURCE,
            so=f"segc run {source} IMAGE, or give the source that it was compiled from",
        )  # fmt: skip
    if path.is_dir():
        raise SourceError(
            f"'{source}' is a folder",
            code=Code.UNKNOWN_SOURCE,
            so="give a config file, a zoo name, a Python file or an .onnx file",
        )
    zoo = zoo_names()
    if found := zoo.get(source.removesuffix(".py")):
        return found
    close = closest(source.removesuffix(".py"), zoo)
    raise SourceError(
        f"there is no file or zoo config named '{source}'",
        code=Code.UNKNOWN_SOURCE,
        because="mmseg is not installed, so zoo names are unknown" if not zoo else f"the zoo has {len(zoo)} configs",
        so=f"did you mean {' or '.join(close)}?"
        if close
        else ("pip install 'segc[mmseg]'" if not zoo else "check the spelling"),
    )
